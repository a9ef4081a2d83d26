"""A short version of the calibration: the mechanism, and the worst of its numbers."""

from pathlib import Path

import pytest
from support.records import make_record, write_study

from scripts.calibration.__main__ import COVERAGE, ERROR, LEAST, MARKS, PAGE, doubt, main
from scripts.calibration.populations import CRITICAL, MADE_UP, Case
from scripts.calibration.simulation import (
    Design,
    decided,
    simulate,
    simulate_critical,
    simulate_interaction,
)

STUDIES = 300


@pytest.mark.parametrize("case", MADE_UP, ids=lambda case: case.group)
@pytest.mark.parametrize("sizes", [((10, 10), (15, 15)), ((15, 12),)])
def test_intervals_cover_and_rules_seldom_err(
    case: Case, sizes: tuple[tuple[int, int], ...]
) -> None:
    found = simulate(case, Design(sizes), STUDIES)
    assert found.covered["P"] > COVERAGE - doubt(COVERAGE, STUDIES)
    for rule, least in LEAST.items():
        if found.truth <= least + 1e-3:
            assert found.reproduced[rule] < ERROR + doubt(ERROR, STUDIES)


def test_more_seeds_decide_more() -> None:
    few, many = (decided(1.81, Design(((n, n),)), STUDIES) for n in (5, 20))
    assert few[0] == many[0] == pytest.approx(0.9, abs=0.001)
    assert few[1] < 0.6 < 0.9 < many[1]
    assert decided(0, Design(((20, 20),)), STUDIES)[2] > 0.6


def test_a_critical_setting_is_found_and_an_equal_one_is_not() -> None:
    cases = {name: (ours, theirs) for name, ours, theirs in CRITICAL}
    equal = simulate_critical(*cases["no difference, narrow"], (5, 3), 60)
    assert equal.reproduced < ERROR + doubt(ERROR, 60)
    assert equal.covered > COVERAGE - doubt(COVERAGE, 60)
    assert simulate_critical(*cases["narrower than the control"], (5, 3), 60).reproduced > 0.9
    assert simulate_critical(*cases["wider than the control"], (5, 3), 60).refuted > 0.9


def test_an_interaction_is_found_and_none_is_not() -> None:
    none, _ = simulate_interaction(0, 2, 3, 10, STUDIES)
    strong, _ = simulate_interaction(3, 3, 5, 20, STUDIES)
    assert none < ERROR + doubt(ERROR, STUDIES)
    assert strong > 0.8


def write_plan(results: Path) -> None:
    arms = [("adam", 3e-4), ("adam", 3e-3), ("adam", 3e-2), *(("alphagrad", a) for a in (1, 3, 9))]
    records = [
        make_record(*arm, seed, score=100 + 7 * seed % 5) for arm in arms for seed in range(5)
    ]
    records += [
        make_record(*arm, 100 + seed, stage="confirm") for arm in arms[1::2] for seed in range(6)
    ]
    write_study(results, "s", *records)


@pytest.mark.slow
def test_the_tables_replace_what_stands_between_the_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nstale\n{MARKS[1]}\nafter\n")
    assert main([f"results={tmp_path}", f"page={page}", "studies=8"]) in (0, 1)
    text = page.read_text()
    assert text.startswith(
        f"before\n{MARKS[0]}\nMade by `python -m scripts.calibration`: 8 studies"
    )
    assert text.endswith(f"{MARKS[1]}\nafter\n")
    assert "stale" not in text
    for table in (
        "seeds: 6**",
        "seeds: 6/3**",
        "3 tasks: reproduced",
        "seeds: 10**",
        "Interaction",
    ):
        assert table in text
    assert "| real runs, no effect |" in text
    assert capsys.readouterr().out == f"{page}\n"


def test_a_mistake_is_one_line_and_nothing_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("no marks")
    for arguments in ([f"page={page}"], ["page=/nowhere"], ["studies=0"], ["study=5"]):
        assert main([f"results={tmp_path}", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = ("has no <!-- calibration -->", "/nowhere", "studies=0: should be", "study")
    assert [text in line for text, line in zip(said, lines, strict=True)] == [True] * 4


def test_the_page_shows_no_interval_that_covers_too_little() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if " effect" in line and "|" in line]
    covered = [float(row.split("|")[3].split()[0]) for row in rows if row.count("|") > 6]
    assert len(covered) > 40
    assert min(covered) >= COVERAGE
