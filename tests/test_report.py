"""The report as a reader sees it, in Chromium."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from record_fixtures import make_record, write_records
from selenium import webdriver
from selenium.webdriver.common.by import By

from scripts import claims
from scripts.report import cell, code, main

HOSTILE = "<script>window.hacked = true</script>|`a`"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    arms = ["adam", "alphagrad-alpha1", "alphagrad-alpha10"]
    records = [
        make_record(arm, seed, score=1000.0 * index + 7 * seed)
        for index, arm in enumerate(arms)
        for seed in range(3)
    ]
    broken = make_record("sgd", 0, diverged_at=300)
    broken["reason"] = HOSTILE
    for number, record in enumerate([*records, broken]):
        record["identity"] = f"{number:012x}"
    write_records(folder / "ppo", *records, broken)
    assert claims.main([f"results={folder}"]) == 0
    assert main([f"results={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(paths):
        message = "needs Debian's packages chromium and chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(paths[1]))
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, results: Path) -> Iterator[webdriver.Chrome]:
    browser.get((results / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def emulate(page: webdriver.Chrome, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def test_figures_are_drawn_and_identifiers_are_unique(page: webdriver.Chrome) -> None:
    figures = page.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(figures) == 8 - 2 + 1  # no heat map, no diagnostics; and the overview
    assert all(figure.size["height"] > 50 for figure in figures)
    identifiers = page.execute_script(
        "return [...document.querySelectorAll('[id]')].map(e => e.id)"
    )
    assert len(identifiers) == len(set(identifiers))
    dangling = page.execute_script(
        "return [...document.querySelectorAll('svg use')]"
        ".map(e => e.getAttribute('xlink:href') || e.getAttribute('href'))"
        ".filter(h => !document.getElementById(h.slice(1)))"
    )
    assert dangling == []


def test_nothing_comes_from_a_network(page: webdriver.Chrome, results: Path) -> None:
    text = (results / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_links_in_the_page_and_to_files_resolve(page: webdriver.Chrome, results: Path) -> None:
    links = page.execute_script(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
    )
    assert links
    for link in links:
        if link.startswith("#"):
            assert page.find_elements(By.ID, link[1:]), link
        elif not link.startswith("../"):
            assert (results / link).exists(), link
        else:
            assert (Path(__file__).parent / link).exists(), link


def test_a_table_sorts_by_value_both_ways(page: webdriver.Chrome) -> None:
    table = page.find_element(By.CSS_SELECTOR, "#ppo ~ .scroll table")
    heading = table.find_elements(By.CSS_SELECTOR, "thead button")[2]

    def arms() -> list[str]:
        return [row.text for row in table.find_elements(By.CSS_SELECTOR, "td:first-child")]

    page.execute_script("arguments[0].click()", heading)
    assert arms() == ["adam", "sgd", "alphagrad-alpha1", "alphagrad-alpha10"]
    page.execute_script("arguments[0].click()", heading)
    assert arms() == ["alphagrad-alpha10", "alphagrad-alpha1", "sgd", "adam"]


def test_a_figure_opens_grows_and_goes_back(page: webdriver.Chrome) -> None:
    def click(selector: str) -> None:
        page.execute_script("document.querySelector(arguments[0]).click()", selector)

    def width() -> float:
        return float(page.find_element(By.CSS_SELECTOR, "#stage svg").size["width"])

    click("figure .zoom")
    before = width()
    click("#larger")
    assert width() > before
    click("#close")
    page.execute_async_script("setTimeout(arguments[0])")  # the close event comes after the click
    assert page.find_elements(By.CSS_SELECTOR, "figure .zoom svg")
    assert not page.find_elements(By.CSS_SELECTOR, "#stage svg")


def test_a_link_to_a_claim_opens_it(page: webdriver.Chrome, results: Path) -> None:
    page.get((results / "report.html").as_uri() + "#claim-ppo")
    page.refresh()
    assert page.find_element(By.ID, "claim-ppo").get_attribute("open")


def test_a_phone_does_not_scroll_sideways(page: webdriver.Chrome) -> None:
    emulate(page, 360, "light")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360


def test_it_is_dark_where_the_reader_wants_it(page: webdriver.Chrome) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        emulate(page, 1000, scheme)
        body = page.find_element(By.TAG_NAME, "body")
        backgrounds.append(body.value_of_css_property("background-color"))
    assert backgrounds == ["rgba(255, 255, 255, 1)", "rgba(21, 23, 26, 1)"]


def test_text_from_records_is_escaped(page: webdriver.Chrome, results: Path) -> None:
    assert page.execute_script("return window.hacked") is None
    assert "<script>window.hacked" in page.find_element(By.TAG_NAME, "main").text
    markdown = (results / "README.md").read_text()
    assert "<script" not in markdown
    assert cell("a|b\n<c>") == r"a\|b &lt;c>"
    assert code("<a> `b<c`") == "&lt;a&gt; <code>b&lt;c</code>"


def test_the_markdown_has_the_same_content(results: Path) -> None:
    text = (results / "README.md").read_text()
    for expected in (
        "from 10 runs",
        "## Verdicts",
        "| adam | 3 | 7.0 [0.0, 14.0]",
        "![Performance profile](ppo/figures/performance_profile.png)",
        "torch 2.13.0",
        "sgd with seed 0 in HalfCheetah-v4 diverged after 300 steps",
        "## What differs from the paper",
    ):
        assert expected in text
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (results / link).exists() or (Path(__file__).parent / link).exists(), link


def test_a_folder_without_records_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"report: no study in {tmp_path} has records\n"
