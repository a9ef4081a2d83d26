"""Populations of scores whose truth is known: made up, and of the runs of an arm."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scripts.scores import Arm
from scripts.stability import return_range
from scripts.statistics import FloatArray

RUNS = 5
"""An arm with fewer records is no population."""

Sampler = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]


@dataclass(frozen=True)
class Case:
    """Two populations of scores.

    Attributes:
        group: The tables' row.
        x: Draws scores of X.
        y: Draws scores of Y.
        untrained: The score that gains are counted from.
        floor: What a run without a result counts with in means.
    """

    group: str
    x: Sampler
    y: Sampler
    untrained: float = -10
    floor: float = -10


def normal(mean: float = 0, spread: float = 1) -> Sampler:
    """Return a normal population."""
    return lambda rng, shape: rng.normal(mean, spread, shape)


def mixture(share: float, low: Sampler, high: Sampler) -> Sampler:
    """Return a population of which a share is drawn from another."""
    return lambda rng, shape: np.where(rng.random(shape) < share, low(rng, shape), high(rng, shape))


def failed(share: float, others: Sampler) -> Sampler:
    """Return a population of which a share has no result."""
    return lambda rng, shape: np.where(rng.random(shape) < share, -np.inf, others(rng, shape))


def ceiling(others: Sampler, top: float = 0.5) -> Sampler:
    """Return a population of whole numbers, none above a highest one: many ties."""
    return lambda rng, shape: np.minimum(np.round(2 * others(rng, shape)) / 2, top)


def runs(scores: FloatArray) -> Sampler:
    """Return the population that some runs make."""
    return lambda rng, shape: rng.choice(scores, shape)


TWO_MODES = partial(mixture, low=normal(0), high=normal(8))
MADE_UP = (
    Case("no effect", normal(), normal()),
    Case("no effect, other spreads", normal(), normal(0, 4)),
    Case("no effect, two modes", TWO_MODES(0.7), TWO_MODES(0.7)),
    Case("no effect, two modes against one", TWO_MODES(0.5), normal(4)),
    Case("no effect, one in five fails", failed(0.2, normal()), failed(0.2, normal())),
    Case("no effect, ties", ceiling(normal()), ceiling(normal())),
    Case("inferior at the margin", normal(-0.954), normal()),
    Case("small effect", normal(0.36), normal()),
    Case("effect at the threshold", normal(0.954), normal()),
    Case("large effect", normal(1.81), normal()),
    Case("one run in ten is lucky", mixture(0.1, normal(10), normal(-5)), normal()),
    Case("large effect, two modes", TWO_MODES(0.15), TWO_MODES(0.85)),
    Case("large effect, one in five fails", failed(0.2, normal(4)), normal()),
    Case("large effect, ties", ceiling(normal(2)), ceiling(normal(-0.5))),
)


def real_cases(arms: Sequence[Arm]) -> Iterator[Case]:
    """Yield cases of a task's baseline and subject: each against itself, and one by the other."""
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    if not arms or np.isnan(arms[0].scores).any():
        return
    untrained = return_range(arms).untrained
    floor = min(untrained, *(float(arm.scores.min()) for arm in arms))
    for arm in arms:
        if (arm.is_baseline or arm.is_subject) and len(arm.records) >= RUNS:
            same = runs(arm.measured)
            yield Case("real runs, no effect", same, same, untrained, floor)
            if arm.is_subject and baseline is not None and len(baseline.records) >= RUNS:
                rival = runs(baseline.measured)
                yield Case("real runs, subject and baseline", same, rival, untrained, floor)


@dataclass(frozen=True)
class Grid:
    """The populations at the values of a setting.

    Attributes:
        settings: The values.
        arms: Likewise.
        untrained: The score that gains are counted from.
    """

    settings: tuple[float, ...]
    arms: tuple[Sampler, ...]
    untrained: float = 0

    @property
    def width(self) -> float:
        """The decades from the first to the last value."""
        return float(np.log10(self.settings[-1] / self.settings[0]))


def hill(width: float, spread: float) -> Grid:
    """Return a setting over three decades whose gain falls off on both sides of its middle."""
    settings = tuple(float(value) for value in np.logspace(-1.5, 1.5, 7))
    heights = [10 * np.exp(-((np.log10(value) / width) ** 2)) for value in settings]
    return Grid(settings, tuple(normal(float(height), spread) for height in heights))


NARROW, WIDE = 0.7, 2.0
CRITICAL = (
    ("no difference, steady runs", hill(1.2, 0.5), hill(1.2, 0.5)),
    ("no difference, noisy runs", hill(1.2, 3), hill(1.2, 3)),
    ("no difference, narrow", hill(NARROW, 1), hill(NARROW, 1)),
    ("no difference, flat", hill(50, 3), hill(50, 3)),
    ("narrower than the control", hill(NARROW, 1), hill(WIDE, 1)),
    ("narrower, noisy runs", hill(NARROW, 3), hill(WIDE, 3)),
    ("wider than the control", hill(WIDE, 1), hill(NARROW, 1)),
)


def real_grids(arms: Sequence[Arm]) -> Iterator[Grid]:
    """Yield the setting of the baseline and of the subject, with runs enough at three values."""
    if not arms or np.isnan(arms[0].scores).any():
        return
    for family in {arm.family.name: arm.family for arm in arms}.values():
        own = [arm for arm in arms if arm.family == family and len(arm.records) >= RUNS]
        if not any(arm.is_baseline or arm.is_subject for arm in own):
            continue
        own.sort(key=lambda arm: arm.value)
        if len(own) > 2 and own[0].value > 0:
            values = tuple(arm.value for arm in own)
            populations = tuple(runs(arm.scores) for arm in own)
            yield Grid(values, populations, return_range(arms).untrained)
