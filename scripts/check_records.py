"""Checks that the committed records may stand beside each other, study by study.

    python -m scripts.check_records [results=<folder>]

Beside what `load_study` refuses (broken records, two runs of one arm and seed, arms with several
settings), a study must not have

- a record whose identity is not that of its configuration, or not the one in its file's name;
- a record from code with uncommitted changes, or of a commit that ``results/code.yaml`` does not
  list: nobody could say what made it;
- records from two groups of ``results/code.yaml``: the code between them may change results;
- records from several versions of a library that takes part in the computation.

Several processors are allowed, since they differ in rounding only, and are listed. The exit code
is 1 if a study breaks a rule.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from scripts.records import RecordError, load_study
from scripts.settings import (
    ResultsSettings,
    Scale,
    SettingsError,
    StudySettings,
    parse,
    study_folders,
)

LABELS = ("protocol",)
"""Fields of a record's configuration that its identity leaves out."""


class CodeCommit(BaseModel):
    """One entry of ``results/code.yaml``."""

    model_config = ConfigDict(extra="forbid")

    commit: str = Field(pattern="^[0-9a-f]{7,40}$")
    reason: str


def load_groups(path: Path) -> list[list[str]]:
    """The groups of commits whose code computes the same results.

    Raises:
        RecordError: If the file cannot be read or breaks its schema.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
        groups = TypeAdapter(list[list[CodeCommit]]).validate_python(content)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    except YAMLError as error:
        raise RecordError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {location}: {first['msg']}") from error
    return [[entry.commit for entry in group] for group in groups]


def identity_of(configuration: dict[str, Any]) -> str:
    """The identity that `experiments.config.TrainConfig` gives to a configuration."""
    identified = {name: value for name, value in configuration.items() if name not in LABELS}
    return hashlib.sha256(json.dumps(identified, sort_keys=True).encode()).hexdigest()[:12]


def problems(folder: Path, groups: list[list[str]]) -> Iterator[str]:
    """What a study's records break, in a line each that names the file or the folder.

    Args:
        folder: The study's, which holds ``records``.
        groups: As `load_groups` gives them.
    """
    try:
        load_study(folder)
    except RecordError as error:
        yield str(error)
        return
    used: dict[int, str] = {}
    versions: dict[str, set[str]] = {}
    for path in sorted((folder / "records").glob("*.json")):
        record = json.loads(path.read_text())
        identity = identity_of(record["configuration"])
        if not record["identity"] == identity == path.stem.rpartition("-")[2]:
            yield f"{path}: its configuration's identity is {identity}"
        git = record["provenance"]["git"]
        commit = git["commit"] or "unknown"
        if git["dirty"]:
            yield f"{path}: made with uncommitted changes to {commit[:7]}"
        group = next((i for i, g in enumerate(groups) if commit.startswith(tuple(g))), None)
        if group is None:
            yield f"{path}: code.yaml does not list commit {commit[:7]}"
        else:
            used.setdefault(group, commit[:7])
        for name, version in record["provenance"]["versions"].items():
            versions.setdefault(name, set()).add(version)
    if len(used) > 1:
        yield f"{folder}: code that may give other results: {' and '.join(used.values())}"
    for name, found in versions.items():
        if len(found) > 1:
            yield f"{folder}: several versions of {name}: {', '.join(sorted(found))}"


def overview(folders: list[Path]) -> Table:
    """Runs of each study by commit and processor."""
    table = Table("study", "commit", "processor", "runs")
    for folder in folders:
        counts: Counter[tuple[str, str]] = Counter()
        for path in (folder / "records").glob("*.json"):
            provenance = json.loads(path.read_text())["provenance"]
            commit = provenance["git"]["commit"] or "unknown"
            counts[commit[:7], provenance["cpu"]["model"] or "unknown"] += 1
        for (commit, cpu), runs in sorted(counts.items()):
            table.add_row(folder.name, commit, cpu, str(runs))
    return table


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code."""
    try:
        usage = "python -m scripts.check_records [results=<folder>]"
        results = Path(parse(ResultsSettings, arguments, usage).results)
        paper = StudySettings(scale=Scale.paper, results=str(results))
        folders = study_folders(paper)
        groups = load_groups(results / "code.yaml")
    except (RecordError, SettingsError) as error:
        print(f"check_records: {error}", file=sys.stderr)
        return 2
    found = [problem for folder in folders for problem in problems(folder, groups)]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        Console().print(overview(folders))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
