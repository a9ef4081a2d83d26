import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from record_fixtures import make_record, write_records
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from scripts.figures import STUDY_FIGURES, THEORY_FIGURES
from scripts.figures.plot import Drawn
from scripts.report import main, short_path

HOSTILE = "<img src=x onerror=alert(1)>"
ROOT = Path(__file__).parents[1]


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
    """Results with a report: a study of paper scale with a hostile arm, and one of quick scale."""
    folder = tmp_path_factory.mktemp("repository") / "results"
    diverged = make_record("alphagrad-alpha1", score=200, diverged_at=400, saturated=[0.2, 0.4])
    diverged["reason"] = f"train/loss is nan {HOSTILE}"
    hostile = make_record(HOSTILE, score=3000)
    hostile["provenance"]["cpu"]["model"] = f"A {HOSTILE} CPU"
    adam = [make_record("adam", seed, score=score) for seed, score in enumerate([800, 1000, 1200])]
    write_records(folder / "ppo", *adam, diverged, hostile)
    write_records(folder / "ppo-quick", make_record("adam"))
    (committed,) = (ROOT / "results" / "theory").glob("*.json")
    theory = json.loads(committed.read_text())
    theory["series"] = theory["series"][::40]
    (folder / "theory").mkdir()
    (folder / "theory" / "0.json").write_text(json.dumps(theory))
    shutil.copytree(ROOT / "docs", folder.parent / "docs")
    assert main([f"results={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Page:
    return Page((results / "report.html").read_text())


def test_everything_is_written(results: Path) -> None:
    drawn = {path.stem for path in (results / "ppo" / "figures").glob("*.txt")}
    one_rate = {"score_by_learning_rate_and_alpha"}
    assert drawn == set(STUDY_FIGURES) - one_rate
    for name in drawn:
        for ending in Drawn.ENDINGS:
            assert (results / "ppo" / "figures" / f"{name}{ending}").stat().st_size
    theory = {path.stem for path in (results / "theory" / "figures").glob("*.txt")}
    assert theory == set(THEORY_FIGURES)
    assert (results / "figures" / "overview.png").exists()
    for folder in ("ppo", "ppo-quick"):
        assert (results / folder / "table.csv").exists()
        assert (results / folder / "figures" / "learning_curves.pdf").exists()


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
    assert len(links) > 20
    for link in links:
        path, _, heading = link.partition("#")
        assert (results / path).exists(), link
        assert not heading or f"## {heading}\n" in (results / path).read_text(), link


def test_text_from_records_is_escaped(results: Path, page: Page) -> None:
    assert page.text.count(HOSTILE) >= 4  # tables, failures, processor, a figure's label
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any("onerror" in attributes for _, attributes in page.elements)
    for path in (results / "README.md", results / "ppo" / "table.md"):
        text = path.read_text()
        assert "&lt;img" in text
        if path.name == "README.md":
            assert "<img" not in text


def test_only_paper_scale_is_reported(results: Path, page: Page) -> None:
    assert "5 runs of 1,000 steps, 3 arms." in page.text
    assert "Quick scale" not in page.text
    assert "train/loss is nan" in page.text
    readme = (results / "README.md").read_text()
    assert "from 5 runs" in readme
    assert "alphagrad-alpha1 with seed 0 in HalfCheetah-v4 diverged after 400 steps" in readme
    for name in STUDY_FIGURES:
        shown = (results / "ppo" / "figures" / f"{name}.svg").exists()
        assert (f"ppo/figures/{name}.png" in readme) == shown
        assert any(a.get("id") == f"ppo-figures-{name}" for _, a in page.elements) == shown


def test_a_study_says_which_figures_it_lacks(results: Path, page: Page) -> None:
    text = "which needs AlphaGrad at several learning rates and several alphas, all else equal."
    assert f"Not drawn: score_by_learning_rate_and_alpha, {text}" in page.text
    readme = (results / "README.md").read_text()
    assert f"- Not drawn: `score_by_learning_rate_and_alpha`, {text}\n" in readme
    assert readme.count("Not drawn") == 1


def test_what_decides_a_claim_is_said_once(results: Path) -> None:
    row = r"^\| \[.*\]\(CLAIMS\.md.* \| (.*) \|$"
    claims = re.findall(row, (results / "README.md").read_text(), re.MULTILINE)
    assert "More runs: AlphaGrad has runs at 0 of 6 settings in td3." in claims
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


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for path in before:
        if path.suffix != ".json":
            path.unlink()
    assert main([f"results={results}"]) == 0
    after = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert set(before) == set(after)
    assert [path for path in before if before[path] != after[path]] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no study in"), (["study=ppo"], "Key 'study' not in")],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("report: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    driver = shutil.which("chromedriver")
    if not driver or not shutil.which("chromium"):
        missing = "needs Debian's chromium and chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
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


def test_the_page_works_in_a_browser(results: Path, browser: webdriver.Chrome) -> None:
    def emulate(command: str, **settings: object) -> None:
        browser.execute_cdp_cmd(f"Emulation.{command}", settings)

    emulate("setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.get((results / "report.html").as_uri())
    assert browser.execute_script("return innerWidth") == 390
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    background = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60

    html = browser.find_element(By.TAG_NAME, "html")
    for motion, scrolls in (("reduce", "auto"), ("no-preference", "smooth")):
        emulate("setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": motion}])
        assert html.value_of_css_property("scroll-behavior") == scrolls

    emulate("clearDeviceMetricsOverride")
    figures = browser.find_elements(By.CSS_SELECTOR, "figure svg[role=img]")
    assert len(figures) == len(browser.find_elements(By.TAG_NAME, "figure")) > 5
    assert all(figure.size["width"] > 300 and figure.size["height"] > 50 for figure in figures)
    assert all(figure.get_attribute("aria-label") for figure in figures)
    links = browser.find_elements(By.CSS_SELECTOR, "a[href^='#']")
    assert len(links) > 3
    for link in links:
        assert browser.find_elements(By.ID, link.get_attribute("href").partition("#")[2])

    def click(element: WebElement) -> None:
        browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", element)
        element.click()

    table = browser.find_element(By.TAG_NAME, "table")
    heading = table.find_elements(By.CSS_SELECTOR, "thead th")[2]
    orders = []
    for _ in range(2):
        click(heading.find_element(By.TAG_NAME, "button"))
        cells = table.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(3)")
        orders.append((heading.get_attribute("aria-sort"), [cell.text for cell in cells]))
    scores = ["200.0 [-]", "1,000 [800.0, 1,200]", "3,000 [-]"]
    assert orders == [("ascending", scores), ("descending", scores[::-1])]

    click(browser.find_element(By.CSS_SELECTOR, ".zoom"))
    assert browser.find_elements(By.CSS_SELECTOR, "dialog[open] #stage svg")
    browser.find_element(By.ID, "close").click()
    assert browser.find_elements(By.CSS_SELECTOR, "figure svg[role=img]") == figures
    assert browser.get_log("browser") == []
