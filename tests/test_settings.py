"""The command line of the analysis."""

from collections.abc import Callable

import pytest

from scripts import check_records, check_results, claims, report, tables
from scripts.figures import __main__ as figures


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
