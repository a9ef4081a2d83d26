"""docs/tutorial.md from its first command to its verdicts, with shorter and fewer runs."""

import re
import shlex
import signal
from pathlib import Path

import pytest
import yaml
from support.runs import start_module

PAGE = (Path(__file__).parents[1] / "docs/tutorial.md").read_text()
FILES = dict(re.findall(r"`(my_\w+\.\w+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
SHORT = {"total_steps": "1_000", "learning_starts": "200", "n_trials": "1", "points": "2"}
"""Of the settings of a command, instead of the page's."""


def shorter(setting: str) -> str:
    """Return a setting as it is on the page, or as this test can afford it."""
    name, _, _ = setting.partition("=")
    value = SHORT.get(name.rpartition(".")[2])
    return setting if value is None or setting.endswith("=0") else f"{name}={value}"


def shorter_study(text: str) -> str:
    """Return a study with two families a task, a value of each, and a seed of each stage."""
    study = yaml.safe_load(text)
    first, *others = study["families"]
    for task, other in zip(study["tasks"].values(), others, strict=True):
        task["families"] = [first, other]
        task["total_steps"] = int(SHORT["total_steps"])
        task["overrides"] = [shorter(override) for override in task["overrides"]]
    for family in study["families"].values():
        family["values"] = family["values"][:1]
    return yaml.safe_dump(study | {"seeds": {"tune": 1, "confirm": 1}}, sort_keys=False)


def run(folder: Path, command: str, *, interrupt: bool = False) -> str:
    """Run a command of the page; return what it prints."""
    python, _, module, *arguments = shlex.split(command)
    assert python == ".venv/bin/python"
    process = start_module(module, *map(shorter, arguments), folder=folder)
    records = folder / "results" / "records"
    while interrupt and process.poll() is None:
        if any(records.glob("*.json")):
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate()
    assert process.returncode == (130 if interrupt else 0), errors
    return output


@pytest.mark.slow
def test_the_page_leads_to_verdicts(tmp_path: Path) -> None:
    assert [*FILES] == ["my_optimizer.py", "my_study.yaml"]
    assert PAGE.count("```") == 2 * (len(FILES) + len(BLOCKS))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    one, sweep, plan, study, again, report = COMMANDS

    assert "completed" in run(tmp_path, one)
    run(tmp_path, sweep)
    found = yaml.safe_load((tmp_path / "runs/.hydra/optimization_results.yaml").read_text())
    assert 1 <= found["best_params"]["optimizer.alpha"] <= 300

    assert "0 of 24" in run(tmp_path, plan)
    (tmp_path / "my_study.yaml").write_text(shorter_study(FILES["my_study.yaml"]))
    assert study == again
    assert "interrupted" in run(tmp_path, study, interrupt=True)
    kept = len([*(tmp_path / "results/records").iterdir()])
    assert 1 <= kept < 4
    output = run(tmp_path, again)
    assert f"tune: 4 runs, {kept} of them have a record" in output
    assert "confirm: 4 of 4 runs done" in output

    run(tmp_path, report)
    folder = tmp_path / "results" / "my_study"
    verdicts = (folder / "VERDICTS.md").read_text()
    # A seed of each decides nothing, and says so.
    for pair in ("AlphaGrad beside AdamW", "my Lion beside AdamW"):
        assert f"| {pair} | **undecided** |" in verdicts
    assert "A plan with 5 seeds at least" in verdicts
    assert (folder / "table.md").exists()
    assert (folder / "figures" / "Pendulum-v1" / "learning_curves.png").exists()
    assert "my Lion" in (folder / "report.html").read_text()
