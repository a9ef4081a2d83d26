"""The rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for path in sorted((ROOT / "scripts").rglob("*"))
    if path.suffix in (".py", ".j2", ".js", ".css", ".mplstyle") and "benchmark" not in path.parts
]
PACKAGE = "check_records.py", "alphagrad"
"""The one name that is something else too: the package whose code a record depends on."""


def study_names() -> set[str]:
    """What the studies call themselves, their tasks, protocols, optimizers and families."""
    names: set[str] = set()
    for path in (ROOT / "configs" / "study").rglob("*.yaml"):
        study = yaml.safe_load(path.read_text())
        tasks = study.get("tasks") or {}
        families = study if path.parent.name == "families" else study.get("families") or {}
        names |= {study.get("name", path.stem)} - {path.stem} | {*tasks}
        if path.parent == ROOT / "configs" / "study":
            names.add(path.stem)
        names |= {task["protocol"] for task in tasks.values() if "protocol" in task}
        for name, family in families.items():
            if isinstance(family, dict):
                names |= {name, family.get("optimizer", name)}
    return names


def test_scripts_know_no_study_arm_or_environment_by_name() -> None:
    names = study_names()
    assert len(names) > 15
    found = [
        f"{path.relative_to(ROOT)}:{number}: {name}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for name in names
        if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", line, re.IGNORECASE)
        and (path.name, name) != PACKAGE
    ]
    assert found == []


def test_scripts_import_neither_torch_nor_what_trains() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SOURCES
        if path.suffix == ".py"
    ]
    code = (
        f"import sys, {', '.join(modules)}; "
        "assert not {'torch', 'stable_baselines3', 'gymnasium', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
