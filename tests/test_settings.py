"""The command line of the analysis."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.records import make_record, write_study

from scripts import check_records, check_results, claims, report, tables
from scripts.figures import __main__ as figures
from scripts.settings import SettingsError, StudySettings, load_studies, study_name


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize(
    "main",
    [
        check_records.main,
        check_results.main,
        claims.main,
        figures.main,
        report.main,
        tables.main,
    ],
    ids=lambda main: main.__module__,
)
def test_help_is_the_usage(
    main: Callable[[list[str]], int], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([flag])
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: python -m scripts.")
    assert out.count("\n") == 1
    assert not err


def test_a_study_that_is_there_at_quick_scale_only_is_told(tmp_path: Path) -> None:
    write_study(tmp_path, "dqn", make_record(), scale="quick")
    with pytest.raises(SettingsError, match="has it at quick scale only: scale=quick"):
        load_studies(StudySettings(results=str(tmp_path), study="dqn"))


def test_a_file_stands_for_the_study_that_is_named_after_it(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("my_study.yaml", "a.yml")]
    for file in files:
        file.touch()
    assert [study_name(given) for given in (*map(str, files), "dqn_v1.5", "all")] == [
        *("my_study", "a", "dqn_v1.5", "all")
    ]
    with pytest.raises(SettingsError, match="no such file"):
        study_name("no.yaml")
