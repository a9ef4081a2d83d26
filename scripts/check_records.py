"""Check that the committed records are whole, and may stand beside each other within each task.

    python -m scripts.check_records [results=<folder>]

A record must have the digest and the identity of its content, and the identity that ends its file's
name. Beside what `load_study` refuses (broken records, arms with several settings), a task of a
study must not have

- a record from code with uncommitted changes, or from none that git knows: nobody could say what
  made it;
- records from code that may give other results. Commits give the same if one group of
  ``results/code.yaml`` lists them, or if they do not differ in the code of a run;
- records from several versions of a library that takes part in the computation.

Several processors are allowed, since they differ in rounding only, and are listed; so are records
of no study. The exit code is 1 if a rule is broken.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from experiments.endings import one_line_endings
from experiments.runs.records import FOLDER, digest, sealed
from scripts.records import Record, RecordError, read_json
from scripts.settings import ResultsSettings, SettingsError, parse
from scripts.studies import MANIFEST, Manifest, Study, load_study, study_names

LABELS = ("protocol", "optimizer_settings")
"""Fields of a record's configuration that its identity leaves out, as in experiments/config.py."""
CODE = ("alphagrad", "experiments")
"""Folders of the code of a run; all that ``configs`` determines stands in the record itself."""
REPOSITORY = Path(__file__).parents[1]


class CodeCommit(BaseModel):
    """One entry of ``results/code.yaml``."""

    model_config = ConfigDict(extra="forbid")

    commit: str = Field(pattern="^[0-9a-f]{7,40}$")
    reason: str


class Code:
    """Which commits compute the same results.

    Args:
        groups: Of commits, full or abbreviated.
        repository: Whose commits they are.
    """

    def __init__(self, groups: list[list[str]], repository: Path = REPOSITORY) -> None:
        self._groups = groups
        self._repository = repository
        self._same: dict[Hashable, int] = {}
        self._known: dict[str, Hashable] = {}

    def __getitem__(self, commit: str) -> Hashable:
        """Return what is equal for commits that compute the same results."""
        if commit not in self._known:
            self._known[commit] = self._find(commit)
        return self._known[commit]

    def _find(self, commit: str) -> Hashable:
        for index, group in enumerate(self._groups):
            if commit.startswith(tuple(group)):
                return index
        if not self._same:  # only now: a clone may not have the listed commits
            for index, group in enumerate(self._groups):
                self._same |= {self._trees(listed): index for listed in group}
        trees = self._trees(commit)
        return self._same.get(trees, trees)

    def _trees(self, commit: str) -> str:
        """Return the names that git has for a commit's code, or the commit where it has none."""
        names = [f"{commit}:{name}" for name in CODE]
        command = ["git", "-C", str(self._repository), "rev-parse", *names]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return commit


def load_code(path: Path) -> Code:
    """Return the groups of commits that a file lists; without a file there are none.

    Raises:
        RecordError: If the file cannot be read or breaks its schema.
    """
    if not path.exists():
        return Code([])
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
        groups = TypeAdapter(list[list[CodeCommit]]).validate_python(content)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {location}: {first['msg']}") from error
    return Code([[entry.commit for entry in group] for group in groups])


def identity_of(configuration: dict[str, Any]) -> str:
    """Return the identity that `experiments.config.TrainConfig` gives to a configuration."""
    return digest({k: value for k, value in configuration.items() if k not in LABELS})[:12]


def broken_records(paths: Iterable[Path]) -> Iterator[str]:
    """Say what is wrong with each record by itself, in a line that names its file."""
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            read_json(path, Record)
        except RecordError as error:
            yield str(error)
            continue
        record = json.loads(path.read_bytes())
        identity = identity_of(record["configuration"])
        if not record["identity"] == identity == path.stem.rpartition("-")[2]:
            yield f"{path}: its configuration's identity is {identity}"
        if record.get("digest") != (expected := sealed(record)["digest"]):
            yield (
                f"{path}: digest = {record.get('digest')!r}: should be {expected!r}; "
                "something was changed after the run"
            )
        if other := seen.get(identity):
            yield f"{path}: the same run as {other.name}"
        seen[identity] = path


def unfit_records(study: Study, code: Code) -> Iterator[str]:
    """Say what keeps the records of a study's task from standing beside each other."""
    for task in study.tasks:
        where = f"{study.folder}, {task.name}"
        records = [record for arm in study.arms_of(task) for record in arm.records]
        used: dict[Hashable, str] = {}
        versions: dict[str, set[str]] = {}
        for record in records:
            git = record.provenance.git
            if git.commit is None:
                yield f"{where}: run {record.identity} was not made in a git checkout"
                continue
            if git.dirty:
                yield (
                    f"{where}: run {record.identity} was made with uncommitted changes to "
                    f"{git.commit[:7]}"
                )
            used.setdefault(code[git.commit], git.commit[:7])
            for name, version in record.provenance.versions.items():
                versions.setdefault(name, set()).add(version or "unknown")
        if len(used) > 1:
            yield f"{where}: code that may give other results: {' and '.join(used.values())}"
        for name, found in versions.items():
            if len(found) > 1:
                yield f"{where}: several versions of {name}: {', '.join(sorted(found))}"


def overview(studies: list[Study]) -> Table:
    """Return a table of the runs of each task by commit and processor."""
    table = Table("study", "task", "commit", "processor", "runs")
    for study in studies:
        for task in study.tasks:
            counts: Counter[tuple[str, str]] = Counter()
            for arm in study.arms_of(task):
                for record in arm.records:
                    git, cpu = record.provenance.git, record.provenance.cpu
                    counts[(git.commit or "unknown")[:7], cpu.model or "unknown"] += 1
            for (commit, processor), runs in sorted(counts.items()):
                table.add_row(study.name, task.name, commit, processor, str(runs))
    return table


def of_no_study(results: Path, paths: list[Path]) -> list[Path]:
    """Return the records that no manifest names."""
    manifests = [read_json(path, Manifest) for path in sorted(results.glob(f"*/{MANIFEST}"))]
    planned = {run.identity for each in manifests for arm in each.arms for run in arm.runs}
    return [path for path in paths if path.stem.rpartition("-")[2] not in planned]


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    try:
        usage = "python -m scripts.check_records [results=<folder>]"
        results = Path(parse(ResultsSettings, arguments, usage).results)
        code = load_code(results / "code.yaml")
        names = study_names(results)
        if not names:
            raise SettingsError(f"results={results}: no study in it has records")
    except (RecordError, SettingsError) as error:
        print(f"check_records: {error}", file=sys.stderr)
        return 2
    paths = sorted((results / FOLDER).glob("*.json"))
    found = list(broken_records(paths))
    studies = []
    for name in names:
        try:
            studies.append(load_study(results, name))
        except RecordError as error:
            found.append(str(error))
    found += [problem for study in studies for problem in unfit_records(study, code)]
    for problem in dict.fromkeys(found):
        print(problem, file=sys.stderr)
    if found:
        return 1
    console = Console()
    console.print(overview(studies))
    for path in of_no_study(results, paths):
        console.print(f"{path}: no study plans this run", soft_wrap=True, highlight=False)
    return 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
