"""The choice of a family's value by the returns of its tuning runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.measures import training_return
from experiments.mistakes import ConfigurationError
from experiments.runs.reading import read_json

RESAMPLES = 2000
CUT = 0.25
"""Share of the runs left out of the interquartile mean at each end."""


@dataclass(frozen=True)
class Candidate:
    """What speaks for one value.

    Attributes:
        iqm: interquartile mean of the runs' training returns; None is minus infinity, from runs
            that diverged.
        seeds: how many runs.
        chosen_share: how often the value is chosen when each value's runs are resampled, in
            [0, 1]: near 1 is a sure choice. None where a value has a single run, which cannot be
            resampled.
    """

    iqm: float | None
    seeds: int
    chosen_share: float | None


@dataclass(frozen=True)
class Choice:
    """A family's chosen value on a task.

    Attributes:
        value: the value.
        arm: the name of its arm.
        by: each of the family's arms, by name, with what it was judged by.
    """

    value: float
    arm: str
    by: dict[str, Candidate]

    def __str__(self) -> str:
        """Return the choice in words."""
        chosen = self.by[self.arm]
        score = "diverged" if chosen.iqm is None else f"IQM {chosen.iqm:.4g}"
        words = f"{self.arm} ({score} of {chosen.seeds} seed{'s' * (chosen.seeds > 1)}"
        if chosen.chosen_share is not None and len(self.by) > 1:
            words += f", chosen in {chosen.chosen_share:.0%} of resamples"
        return f"{words})"


def choose(
    names: Mapping[float, str], returns: Mapping[float, Sequence[float]], default: float | None
) -> Choice:
    """Choose the value whose runs have the highest interquartile mean.

    Equal ones go to the default, else to the smaller value.

    Args:
        names: of each value's arm.
        returns: of each value's runs, one at least; minus infinity for a run that diverged.
        default: the value that needs no tuning.
    """
    from scipy.stats import trim_mean  # takes half a second

    values = sorted(names, key=lambda value: (value != default, value))  # argmax takes the first
    scores = np.array([trim_mean(returns[value], CUT) for value in values])
    generator = np.random.default_rng(0)
    resampled = [
        trim_mean(generator.choice(returns[value], (RESAMPLES, len(returns[value]))), CUT, axis=1)
        for value in values
    ]
    counts = np.bincount(np.argmax(resampled, axis=0), minlength=len(values))
    single = min(map(len, returns.values())) == 1
    by = {
        names[value]: Candidate(
            iqm=float(score) if np.isfinite(score) else None,
            seeds=len(returns[value]),
            chosen_share=None if single else int(count) / RESAMPLES,
        )
        for value, score, count in sorted(zip(values, scores, counts, strict=True))
    }
    best = values[int(np.argmax(scores))]
    return Choice(best, names[best], by)


def read_training_return(path: Path) -> float:
    """Return a record's training return; see `experiments.measures`.

    Raises:
        ConfigurationError: if the record is damaged.
    """
    try:
        return training_return(read_json(path) or {})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: damaged: no curve of returns in it") from error
