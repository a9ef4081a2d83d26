"""Simulate the rules and the intervals that verdicts use, and write how often they err.

    python -m scripts.calibration [results=<folder>] [page=docs/statistics.md] [studies=1000]

Studies are drawn anew, with the numbers of seeds and tasks that are planned: from populations whose
truth is known, some made up, some the runs of an arm that has records. The same code judges them
that judges the records. The tables replace what stands on the page between its two marks. It takes
some minutes; the exit code is 1 if an interval covers too little, or a rule errs too often.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.endings import one_line_endings
from experiments.runs.writing import write_bytes
from scripts.calibration.populations import (
    CRITICAL,
    MADE_UP,
    Case,
    Grid,
    real_cases,
    real_grids,
)
from scripts.calibration.simulation import (
    Critical,
    Design,
    Result,
    decided,
    simulate,
    simulate_critical,
    simulate_interaction,
)
from scripts.records import RecordError
from scripts.scores import MEASURES, arms_of
from scripts.settings import ResultsSettings, SettingsError, StudySettings, load_studies, parse
from scripts.studies import Scale

USAGE = "python -m scripts.calibration [results=<folder>] [page=<file>] [studies=<number>]"
PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
MARKS = "<!-- calibration -->", "<!-- end of calibration -->"
COVERAGE, ERROR = 0.93, 0.05
"""What an interval must cover, and how often a rule may call reproduced what is not so."""
LEAST = {"better": 0.5, "substantial": 0.5, "competitive": 0.25}
"""The rules, and the probability of improvement up to which "reproduced" is wrong."""
FEWER = 4
"""Of what is many, or slow, so many times fewer studies are drawn."""
SHIFTS = (0.0, 0.36, 0.954, 1.466, 1.81, 2.327)
"""Of normal scores, in standard deviations, for the table of power."""
POWER_SEEDS = (10, 15, 20, 40, 80)
EFFECTS = (0.0, 1.0, 3.0)
"""Of the best value on the scores, in standard deviations, for the interaction."""


@dataclass
class CalibrationSettings(ResultsSettings):
    """What the command line may set.

    Attributes:
        page: The page whose tables are replaced.
        studies: How many are drawn of each kind.
    """

    page: str = str(PAGE)
    studies: int = 1000


@dataclass(frozen=True)
class Plans:
    """What the studies plan, and the runs that they have.

    Attributes:
        confirm: Seeds of the main tasks of each study, and of its sensitivities.
        tune: Seeds of the tuned arms of each study's main tasks, the fewest of each.
        sizes: The tasks of each study, and the fewest tuning and confirm seeds of any.
        cases: Of real runs.
        grids: Likewise.
    """

    confirm: tuple[Design, ...]
    tune: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, int, int], ...]
    cases: tuple[Case, ...]
    grids: tuple[Grid, ...]


def read_plans(results: Path) -> Plans:
    """Return what is planned below a folder.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there are none.
    """
    studies = load_studies(StudySettings(results=str(results), scale=Scale.paper))
    confirm: dict[Design, None] = {}
    tune: dict[tuple[int, ...], None] = {}
    sizes: dict[tuple[int, int, int], None] = {}
    cases: list[Case] = []
    grids: list[Grid] = []
    for study in studies:
        planned = [task for task in study.manifest.tasks if task.seeds.confirm]
        main = [task for task in planned if task.role == "main"]
        if not main:
            continue
        confirm[Design(tuple((task.seeds.confirm,) * 2 for task in main))] = None
        tune[tuple(task.seeds.tune for task in main)] = None
        tuning = min(task.seeds.tune for task in main)
        sizes[len(main), tuning, min(task.seeds.confirm for task in main)] = None
        for task in planned:
            if task.role != "main":
                confirm[Design(((task.seeds.confirm,) * 2,))] = None
        for task in study.tasks:
            for measure in MEASURES if task in main else []:
                arms = arms_of(study, task, measure)
                cases += real_cases(arms)
                grids += real_grids(arms)
    if confirm:  # runs that are missing, on the plan with the most tasks
        largest = max(confirm, key=lambda design: len(design.sizes))
        confirm[Design(tuple((n, max(m - 3, 3)) for n, m in largest.sizes))] = None
    return Plans(tuple(confirm), tuple(tune), tuple(sizes), tuple(cases), tuple(grids))


@dataclass(frozen=True)
class Table:
    """A table of the page, and what is wrong by it.

    Attributes:
        title: Above it.
        headings: Of its columns.
        rows: Of its cells.
        faults: A line for each interval and rule that is not good enough.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    faults: list[str]

    @property
    def text(self) -> str:
        """The table as Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            f"| {' | '.join(self.headings)} |",
            f"| --- |{' ---: |' * (len(self.headings) - 1)}",
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
        return "\n".join(lines) + "\n"


def comparisons(plans: Plans, design: Design, studies: int) -> Table:
    """Return how intervals and rules do that compare two optimizers."""
    results: dict[str, list[Result]] = {}
    for case in MADE_UP:
        results.setdefault(case.group, []).append(simulate(case, design, studies))
    few = max(studies // FEWER, 1)
    for number, case in enumerate(plans.cases):
        results.setdefault(case.group, []).append(simulate(case, design, few, seed=number))
    rows: list[tuple[str, ...]] = []
    faults = []
    for group, found in results.items():
        drawn = studies if len(found) == 1 else few
        covered = [result.covered["P"] for result in found]
        cells = [_span([result.truth for result in found])]
        cells += [_lowest([result.covered[name] for result in found]) for name in ("P", "IQM")]
        if min(covered) < COVERAGE - doubt(COVERAGE, drawn):
            faults.append(f"{design.name}: {group}: the interval of P covers {min(covered):.3f}")
        for rule, least in LEAST.items():
            wrong = [r.reproduced[rule] for r in found if r.truth <= least + 1e-3]
            if wrong and max(wrong) > ERROR + doubt(ERROR, drawn):
                faults.append(f"{design.name}: {group}: {rule} errs in {max(wrong):.3f}")
            reproduced = np.mean([result.reproduced[rule] for result in found])
            refuted = np.mean([result.refuted[rule] for result in found])
            cells.append(f"{reproduced:.3f} / {refuted:.3f}")
        rows.append((group, *cells))
    headings = ("Population", "P", "P covered", "IQM covered", *LEAST)
    return Table(f"Two optimizers, seeds: {design.name}", headings, rows, faults)


def doubt(share: float, studies: int) -> float:
    """Return three standard errors of a share that was counted in so many studies."""
    return float(3 * np.sqrt(share * (1 - share) / studies))


def power(tasks: int, studies: int) -> Table:
    """Return how often the rule of improvement decides, by the number of seeds."""
    rows: list[tuple[str, ...]] = []
    for shift in SHIFTS:
        designs = [Design(((seeds, seeds),) * tasks) for seeds in POWER_SEEDS]
        found = [decided(shift, design, studies) for design in designs]
        cells = [f"{reproduced:.2f} / {refuted:.2f}" for _, reproduced, refuted in found]
        rows.append((f"{found[0][0]:.2f}", *cells))
    headings = ("P", *(f"{seeds} seeds" for seeds in POWER_SEEDS))
    title = f"The rule *better*, {tasks} task{'s' * (tasks > 1)}: reproduced / not reproduced"
    return Table(title, headings, rows, [])


def critical(plans: Plans, seeds: Sequence[int], studies: int) -> Table:
    """Return how the rule for a critical setting does."""
    rows: list[tuple[str, ...]] = []
    faults = []
    name = " + ".join(map(str, seeds))
    pairs: list[tuple[str, list[Critical]]] = [
        (group, [simulate_critical(ours, theirs, seeds, studies)])
        for group, ours, theirs in CRITICAL
    ]
    few = max(studies // FEWER, 1)
    if plans.grids:
        real = [simulate_critical(grid, grid, seeds, few) for grid in plans.grids]
        pairs.append(("real runs, no difference", real))
    for group, found in pairs:
        rows.append(
            (
                group,
                _span([each.difference for each in found]),
                _lowest([each.covered for each in found]),
                f"{np.mean([each.reproduced for each in found]):.3f} / "
                f"{np.mean([each.refuted for each in found]):.3f}",
            )
        )
        drawn = studies if len(found) == 1 else few
        if min(each.covered for each in found) < COVERAGE - doubt(COVERAGE, drawn):
            faults.append(f"{name}: {group}: the interval of the difference covers too little")
        wrong = [each.reproduced for each in found] if "no difference" in group else [0.0]
        if max(wrong) > ERROR + doubt(ERROR, drawn):
            faults.append(f"{name}: {group}: critical errs in {max(wrong):.3f}")
    headings = ("Populations", "decades less", "covered", "critical")
    return Table(f"Critical, tuning seeds: {name}", headings, rows, faults)


def interaction(plans: Plans, studies: int) -> Table:
    """Return how the rule for an interaction does, with as many tasks and seeds in each study."""
    rows: list[tuple[str, ...]] = []
    faults = []
    for tasks, tune, confirm in plans.sizes:
        name = f"{tasks} tasks, {tune} tuning and {confirm} confirm seeds"
        for effect in EFFECTS:
            reproduced, refuted = simulate_interaction(effect, tasks, tune, confirm, studies)
            rows.append((name, f"{effect:g}", f"{reproduced:.3f} / {refuted:.3f}"))
            if not effect and reproduced > ERROR + doubt(ERROR, studies):
                faults.append(f"{name}: interaction errs in {reproduced:.3f}")
    headings = ("Each of three studies", "effect", "interaction")
    return Table("Interaction", headings, rows, faults)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"


def _lowest(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" + f" (lowest {min(values):.3f})" * (len(values) > 1)


def tables(plans: Plans, studies: int) -> Iterator[Table]:
    """Yield all tables."""
    for design in plans.confirm:
        yield comparisons(plans, design, studies)
    for tasks in (1, 3):
        yield power(tasks, studies)
    for seeds in plans.tune:
        yield critical(plans, seeds, max(studies // FEWER, 1))
    yield interaction(plans, studies)


def around(page: Path) -> tuple[str, str]:
    """Return what stands before and after the tables on a page, with the marks.

    Raises:
        SettingsError: If the page cannot be read, or has no marks.
    """
    try:
        before, start, rest = page.read_text().partition(MARKS[0])
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"page={page}: {error}") from error
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise SettingsError(f"page={page}: has no {' and '.join(MARKS)}")
    return before + start, end + after


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(CalibrationSettings, arguments, USAGE)
        plans = read_plans(Path(settings.results))
        page = Path(settings.page)
        around(page)
        if settings.studies < 1:
            raise SettingsError(f"studies={settings.studies}: should be 1 or more")
    except (RecordError, SettingsError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 2
    number = len(plans.confirm) + 2 + len(plans.tune) + 1
    console = Console(stderr=True)
    every = tables(plans, settings.studies)
    found = list(track(every, "simulating", total=number, console=console))
    made = (
        f"Made by `python -m scripts.calibration`: {settings.studies:,} studies of each made-up "
        f"population of scores, {settings.studies // FEWER:,} of each real one and of settings. "
        "After a rule: the shares of *reproduced* and of *not reproduced*; the rest is undecided."
    )
    texts = "\n".join([made + "\n", *(table.text for table in found)])
    before, after = around(page)
    write_bytes(page, f"{before}\n{texts}{after}".encode())
    faults = [fault for table in found for fault in table.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(page)
    return 1 if faults else 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
