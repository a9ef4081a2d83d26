import shutil
from pathlib import Path

import pytest
from support.records import make_record, write_study

from scripts.check_results import main
from scripts.report import main as report


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    records = [make_record(seed=seed, score=100 / 3 + seed) for seed in range(3)]
    records += [make_record("alphagrad", 1.0, seed, score=seed) for seed in range(3)]
    write_study(results, "brew", *records, overview=1)
    assert report([f"results={results}"]) == 0
    return results


@pytest.fixture
def results(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported, tmp_path / "results"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_same_records_give_the_same_files(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(results / "brew" / "table.csv", "34.3333333333333", "34.3333333333331")  # a processor's
    (results / "brew" / "figures" / "HalfCheetah-v4" / "learning_curves.pdf").unlink()
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert main([f"results={results}"]) == 0
    assert "as the records give it" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_what_differs_is_told_with_the_first_line_that_does(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = results / "brew" / "figures" / "HalfCheetah-v4"
    edit(results / "brew" / "table.md", "34.3 [33.3, 35.3]", "34.4 [33.3, 35.3]")
    edit(results / "brew" / "table.csv", "34.33333", "34.33334")
    (figures / "learning_curves.png").write_bytes(b"\x89PNG, but another")
    (figures / "update_size.png").write_bytes(b"an old one")
    (results / "CLAIMS.md").unlink()
    assert main([f"results={results}"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(results / "CLAIMS.md"),
        str(figures / "learning_curves.png"),
        str(figures / "update_size.png"),
        str(results / "brew" / "table.csv"),
        str(results / "brew" / "table.md"),
    ]
    assert lines[0].endswith(": is missing")
    assert lines[1].endswith(": is another picture")
    assert lines[2].endswith(": is not made from these records")
    assert "line 2 has " in lines[3]
    assert "line 5 has '" in lines[4]
    assert "34.4 [33.3" in lines[4]


def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error == f"check_results: no study in {tmp_path} has records\n"
