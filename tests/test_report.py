import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from support.records import make_family, make_record, write_record, write_study

from scripts.figures import APART, CONVERGENCE_FIGURES, TASK_FIGURES
from scripts.figures.plot import PAGES
from scripts.report import main, write_report
from scripts.svg import short_path

ENDINGS = (*PAGES, ".txt")
"""The other files of a figure are in tests/test_figures.py."""
HOSTILE = "<img src=x onerror=alert(1)>"
ROOT = Path(__file__).parents[1]
TASKS = {"kettle": "Kettle-v7", "pan": "Pan-v0"}
FAMILIES = {
    "water": make_family("Old $water$", "optimizer.heat", "t", 90.0),
    "broth": make_family("Broth & salt", "optimizer.salt", "salt"),
    "_tea|": make_family(f"_Tea {HOSTILE}", "optimizer.leaves", "β"),
}

CLAIMS = f"""
salt:
  source: paper
  text: "Salt is better, {HOSTILE} | always"
  checks:
    - {{rule: better, study: brew, task: kettle}}
    - {{rule: better, study: brew, task: pan}}
tomorrow:
  source: ours
  text: Will it be?
  checks:
    - {{rule: better, study: brew_tomorrow}}
    - {{rule: better, study: brew_tomorrow}}
"""


class Page(HTMLParser):
    """Elements of a page: their tags and attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a report: a study of invented names at paper scale, and one of quick scale.

    It has two tasks of different length and three families, one of which tunes neither a learning
    rate nor on a logarithmic scale.
    """
    folder = tmp_path_factory.mktemp("repository") / "results"
    brew: dict[str, Any] = {"families": FAMILIES, "baseline": "water", "subject": "broth"}
    arms = [("water", 90.0), ("water", 70.0), ("broth", 0.0), ("broth", 0.5), ("broth", 0.9)]
    arms.append(("_tea|", 2.0))
    records = [
        make_record(
            *arm,
            seed,
            score=score + 100 * index + seed,
            task=task,
            environment=environment,
            total_steps=steps,
            evaluated=[0.0, score + 50.0 * index + seed],
            protocol="brewing",
            tuned=FAMILIES[arm[0]]["tuned"],
            saturated=[0.2, 0.4] if arm[0] == "broth" else None,
            diverged_at=400 if (task, *arm) == ("pan", "broth", 0.9) else None,
        )
        for (task, environment), steps, score in zip(
            TASKS.items(), (1000, 3000), (800, -500), strict=True
        )
        for index, arm in enumerate(arms)
        for seed in range(3)
    ]
    write_study(folder, "brew", *records, **brew, overview=1)
    for record in records:
        if record["status"] == "diverged":
            record["reason"] = f"train/loss is nan {HOSTILE}"
            record["provenance"]["cpu"]["model"] = f"A {HOSTILE} CPU"
            write_record(folder, record)
    write_study(folder, "brew", records[0], **brew, scale="quick")
    (committed,) = (ROOT / "results" / "convergence").glob("*.json")
    convergence = json.loads(committed.read_text())
    convergence["series"] = convergence["series"][::40]
    (folder / "convergence").mkdir()
    (folder / "convergence" / "0.json").write_text(json.dumps(convergence))
    shutil.copytree(ROOT / "docs", folder.parent / "docs")
    (folder.parent / "claims").mkdir()
    (folder.parent / "claims" / "brewing.yaml").write_text(CLAIMS)
    words = {
        "title": f"Which brew? {HOSTILE}",
        "lead": "Three brews.",
        "differences": ["None | <b>."],
    }
    (folder.parent / "words.yaml").write_text(json.dumps(words))
    write_report(folder, folder.parent / "claims", folder.parent / "words.yaml", ENDINGS)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Page:
    return Page((results / "report.html").read_text())


def test_everything_is_written_for_each_task(results: Path) -> None:
    for task in TASKS:
        folder = results / "brew" / "figures" / task
        drawn = {path.stem for path in folder.glob("*.txt")}
        lacking = {"score_by_two_settings"} | ({"sensitivity"} if task == "pan" else set())
        assert drawn == set(TASK_FIGURES) - lacking
        for name in drawn:
            for ending in ENDINGS:
                assert (folder / f"{name}{ending}").stat().st_size
            caption = (folder / f"{name}.txt").read_text()
            assert f"brew at paper scale ({TASKS[task]}, " in caption
    convergence = {path.stem for path in (results / "convergence" / "figures").glob("*.txt")}
    assert convergence == set(CONVERGENCE_FIGURES)
    assert (results / "figures" / "overview.png").exists()
    for folder in (results / "brew", results / "quick" / "brew"):
        assert (folder / "table.csv").exists()
        assert (folder / "figures" / "kettle" / "learning_curves.png").exists()
    assert (results / "CLAIMS.md").exists()


def test_the_page_needs_nothing_from_elsewhere(results: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        for name in ("href", "xlink:href"):
            link = attributes.get(name) or "#"
            assert not re.match(r"[a-z]+:(?!,?$)|//", link.removeprefix("data:")), (tag, link)
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert "@import" not in (results / "report.html").read_text()


def test_links_lead_somewhere(results: Path, page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in page.elements:
        link = attributes.get("href") or attributes.get("xlink:href")
        if link and link.startswith("#"):
            assert link[1:] in names, (tag, link)
        elif link and tag == "a":
            assert (results / link).exists(), link
    links = re.findall(r"\]\(([^)]+)\)", (results / "README.md").read_text())
    assert len(links) > 15
    for link in links:
        path, _, heading = link.partition("#")
        assert (results / path).exists(), link
        assert not heading or f"## {heading}\n" in (results / path).read_text(), link


def test_pages_link_to_committed_files_only(results: Path, page: Page) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (results / "README.md").read_text())
    links += [attributes["href"] or "" for tag, attributes in page.elements if tag == "a"]
    assert not [link for link in links if link.endswith((".pdf", ".csv", ".svg", ".txt"))]
    assert "make plots" in page.text


def test_foreign_text_is_escaped(results: Path, page: Page) -> None:
    # The page's title, a claim, the failures, a processor, an arm's label in figures.
    assert page.text.count(HOSTILE) >= 5
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any("onerror" in attributes for _, attributes in page.elements)
    for path in (results / "README.md", results / "brew" / "table.md", results / "CLAIMS.md"):
        text = path.read_text()
        assert "&lt;img" in text
        assert "<img" not in text


def test_invented_names_are_reported_whole(results: Path, page: Page) -> None:
    assert "brew: BREW" in page.text
    assert (
        "36 runs, 12 arms, kettle (Kettle-v7) for 1,000 steps; pan (Pan-v0) for 3,000 steps."
        in page.text
    )
    assert "Old $water$" in page.text
    readme = (results / "README.md").read_text()
    assert "| Task | Arm | Stage | Seeds |" in readme
    for task in TASKS:
        assert f"### BREW, {task}\n" in readme
        assert f"| {task} | broth-salt0.5 | tune | 3 |" in readme
    svg = (results / "brew" / "figures" / "pan" / "score_against_setting.svg").read_text()
    for text in ("Broth &amp; salt", "salt", "0.9"):
        assert f">{text}<" in svg


def test_only_paper_scale_is_reported(results: Path, page: Page) -> None:
    assert "quick" not in page.text.lower()
    assert "train/loss is nan" in page.text
    readme = (results / "README.md").read_text()
    assert "from 36 runs" in readme
    assert "broth-salt0.9 with seed 0 in Pan-v0 diverged after 400 steps" in readme
    for task in TASKS:
        for name in TASK_FIGURES:
            shown = (results / "brew" / "figures" / task / f"{name}.svg").exists()
            assert (f"brew/figures/{task}/{name}.png" in readme) == shown
            found = any(a.get("id") == f"brew-figures-{task}-{name}" for _, a in page.elements)
            assert found == (shown and name not in APART)


def test_a_study_says_which_figures_it_lacks(results: Path, page: Page) -> None:
    text = "which needs arms that differ from the study's subject in its tuned setting and one"
    assert f"Not drawn: score_by_two_settings, {text}" in page.text
    readme = (results / "README.md").read_text()
    assert f"- Not drawn: `score_by_two_settings`, {text}" in readme
    assert readme.count("Not drawn: `score_by_two_settings`") == 1  # of both tasks


def test_what_decides_a_claim_is_said_once(results: Path) -> None:
    row = r"^\| \[.*\]\(CLAIMS\.md.* \| (.*) \|$"
    claims = re.findall(row, (results / "README.md").read_text(), re.MULTILINE)
    assert re.fullmatch(
        r"probability of improvement: [^;]* by training return, .* by evaluation return "
        r"\(tuning runs, exploratory\).*",
        claims[0],
    )
    assert "brew_tomorrow" in claims[1]
    for lines in claims:
        assert len(set(lines.split("<br>"))) == len(lines.split("<br>"))


def test_no_line_of_the_readme_ends_in_a_space(results: Path) -> None:
    lines = (results / "README.md").read_text().splitlines()
    assert [line for line in lines if line.endswith(" ")] == []


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("M 41.4 -151.9 \nL 41.4 -151.2 \nL 43.9 -153.0 \nz", "M41.4-151.9l0 0.7 2.5-1.8z"),
        # After z the pen is back at the start: what follows is not relative to the last point.
        ("M1 2L3 4zM0 0L0 3.5", "M1 2l2 2zM0 0l0 3.5"),
        ("M0 1.4C0.4 1.4 0.7 1.3 1.0 1.0z", "M0 1.4C0.4 1.4 0.7 1.3 1.0 1.0z"),
    ],
)
def test_paths_are_the_same_but_shorter(path: str, short: str) -> None:
    assert short_path(path) == short


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no study in"),
        (["study=ppo"], "ppo/study.json: No such file"),
        (["words=nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["words=list.yaml"], "list.yaml: Input should be a valid dictionary"),
        (["words=half.yaml"], "half.yaml: lead: Field required"),
        (["words=torn.yaml"], "torn.yaml: "),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"list": "[]", "half": "title: A", "torn": "title: ["}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("report: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        missing = "needs Debian's chromium and chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


SMALL = """
const small = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const hidden = element.closest("script, style, noscript") || !element.getClientRects().length;
  if (hidden || !walker.currentNode.textContent.trim()) continue;
  const matrix = element.closest("svg") ? element.getScreenCTM() : { a: 1, b: 0 };
  const scale = Math.hypot(matrix.a, matrix.b);
  const size = parseFloat(getComputedStyle(element).fontSize) * scale;
  if (size < 11) small.push(`${size} ${walker.currentNode.textContent}`);
}
return small;
"""
"""Texts that are smaller than 11 pixels as they are seen."""


def emulate(browser: webdriver.Chrome, command: str, **settings: object) -> None:
    browser.execute_cdp_cmd(f"Emulation.{command}", settings)


def show(browser: webdriver.Chrome, page: Path, width: int) -> None:
    emulate(
        browser,
        "setDeviceMetricsOverride",
        width=width,
        height=844,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    browser.get(page.as_uri())


def scroll_to(browser: webdriver.Chrome, element: WebElement) -> None:
    browser.execute_script(
        "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element
    )


def click(browser: webdriver.Chrome, element: WebElement) -> None:
    scroll_to(browser, element)
    element.click()


def find_all(where: webdriver.Chrome | WebElement, selector: str) -> list[WebElement]:
    return where.find_elements(By.CSS_SELECTOR, selector)


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_can_be_read_on_a_phone_and_on_a_screen(
    results: Path, browser: webdriver.Chrome, width: int
) -> None:
    show(browser, results / "report.html", width)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for details in find_all(browser, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script(SMALL) == []
    figures = find_all(browser, "figure svg[role=img], figure .plot")
    assert len(figures) == len(find_all(browser, "figure")) > 5
    assert all(figure.size["width"] > 300 and figure.size["height"] > 50 for figure in figures)
    assert all(figure.get_attribute("aria-label") for figure in figures)
    # A table that does not fit scrolls in its own place, by the keyboard too, and shows it.
    for region in find_all(browser, ".scroll"):
        assert region.get_attribute("tabindex") == "0"
        assert "linear-gradient" in region.value_of_css_property("background-image")
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_the_page_follows_the_readers_wishes(results: Path, browser: webdriver.Chrome) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    emulate(browser, "setEmulatedMedia", features=dark)
    show(browser, results / "report.html", 1200)
    background = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60
    html = browser.find_element(By.TAG_NAME, "html")
    for motion, scrolls in (("reduce", "auto"), ("no-preference", "smooth")):
        wish = [{"name": "prefers-reduced-motion", "value": motion}]
        emulate(browser, "setEmulatedMedia", features=wish)
        assert html.value_of_css_property("scroll-behavior") == scrolls


def test_tables_sort_and_figures_open(results: Path, browser: webdriver.Chrome) -> None:
    show(browser, results / "report.html", 1200)
    links = find_all(browser, "a[href^='#']")
    assert len(links) > 3
    for link in links:
        target = link.get_attribute("href") or ""
        assert browser.find_elements(By.ID, target.partition("#")[2])

    table = next(t for t in find_all(browser, "table") if "broth-salt0.5" in t.text)
    column = [heading.text.split("\n")[0] for heading in find_all(table, "th")].index("Seeds") + 2
    heading = find_all(table, "thead th")[column - 1]
    orders = []
    for _ in range(2):
        click(browser, heading.find_element(By.TAG_NAME, "button"))
        cells = find_all(table, f"tbody td:nth-child({column})")
        orders.append((heading.get_attribute("aria-sort"), [cell.text for cell in cells]))
    assert [order for order, _ in orders] == ["ascending", "descending"]
    numbers = [float(text.split()[0].replace(",", "")) for text in orders[0][1]]
    assert numbers == sorted(numbers)
    assert orders[0][1] == orders[1][1][::-1]

    figures = find_all(browser, "figure svg[role=img]")
    click(browser, browser.find_element(By.CSS_SELECTOR, ".zoom"))
    assert find_all(browser, "dialog[open] #stage svg")
    browser.find_element(By.ID, "close").click()
    assert find_all(browser, "figure svg[role=img]") == figures
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_learning_curves_can_be_explored(results: Path, browser: webdriver.Chrome) -> None:
    show(browser, results / "report.html", 1200)
    figure = browser.find_element(By.CSS_SELECTOR, "figure.curves")  # of the kettle
    plot, readout = (
        figure.find_element(By.CLASS_NAME, "plot"),
        figure.find_element(By.TAG_NAME, "output"),
    )
    scroll_to(browser, figure)
    hint = readout.text

    def isolated() -> list[str]:
        return [button.text for button in find_all(figure, "[data-arm][aria-pressed=true]")]

    def curves() -> int:
        return len(find_all(plot, "path[stroke]"))

    assert curves() == 4  # the subject's three values, and the baseline
    # The pointer names what is nearest, a click shows it alone and another one all again.
    right = plot.size["width"] // 2 - 14
    hover = ActionChains(browser).move_to_element_with_offset(plot, right, 60)
    hover.perform()
    assert re.fullmatch(
        r".*, .*: [\d,]+ \[[\d,]+, [\d,]+\] at 1,000 steps, 3 seeds",
        readout.text,
    )
    named = readout.text.partition(":")[0]
    hover.click().perform()
    (alone,) = isolated()
    assert named.endswith(f", {alone}")
    hover.click().perform()
    assert isolated() == []

    # So does the keyboard.
    plot.send_keys(Keys.ESCAPE)
    assert readout.text == hint
    plot.send_keys(Keys.ARROW_DOWN)
    assert readout.text.startswith("Broth & salt, salt 0: 10 at 250 steps")
    plot.send_keys(Keys.ARROW_RIGHT)
    assert "50 at 500 steps" in readout.text
    plot.send_keys(Keys.END, Keys.ARROW_DOWN)
    assert readout.text.startswith("Broth & salt, salt 0.5: 1,101 [1,100, 1,102] at 1,000 steps")
    plot.send_keys(Keys.ENTER)
    assert isolated() == ["salt 0.5"]
    # The other measure of the same arm, two evaluations.
    click(browser, find_all(figure, "input[type=radio]")[1])
    assert readout.text.startswith("Broth & salt, salt 0.5: 951")
    plot.send_keys(Keys.ESCAPE)
    assert isolated() == []

    # A family comes and goes; an arm's button shows it alone.
    (tea,) = (b for b in find_all(figure, "[data-family]") if "_Tea" in b.text)
    for count in (5, 4):
        click(browser, tea)
        assert curves() == count
    button = find_all(figure, "[data-arm]")[-1]
    click(browser, button)
    assert curves() == 5
    assert HOSTILE in readout.text
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_a_tap_names_a_curve_and_the_next_shows_it_alone(
    results: Path, browser: webdriver.Chrome
) -> None:
    emulate(browser, "setTouchEmulationEnabled", enabled=True)
    show(browser, results / "report.html", 390)
    figure = browser.find_element(By.CSS_SELECTOR, "figure.curves")
    plot, readout = (
        figure.find_element(By.CLASS_NAME, "plot"),
        figure.find_element(By.TAG_NAME, "output"),
    )
    scroll_to(browser, plot)
    box = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect(); return [box.left, box.top]", plot
    )
    point = {"x": box[0] + 300, "y": box[1] + 100}
    for alone in (0, 1):
        for kind, points in (("touchStart", [point]), ("touchEnd", [])):
            touch = {"type": kind, "touchPoints": points}
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
        assert "steps, 3 seeds" in readout.text
        assert len(find_all(figure, "[data-arm][aria-pressed=true]")) == alone
