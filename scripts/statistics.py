"""Aggregates over seeds and tasks, and their uncertainty, with rliable's names and definitions.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
NeurIPS 2021 (https://arxiv.org/abs/2108.13264), and its library rliable. Their stratified sampling
is SciPy's bootstrap here, seeded: the library brings arch, statsmodels and seaborn along for six
short functions. Which intervals cover what they should: docs/statistics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import bootstrap, norm, t

FloatArray = NDArray[np.float64]
Statistic = Callable[..., FloatArray]

CONFIDENCE_LEVEL = 0.95
NORMAL_QUANTILE = float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2))
PERCENTILE_LEVEL = 0.97
"""Nominal level of the bootstrap's percentile intervals: at 10 to 20 seeds they cover less than
they say, and these cover 93% to 96% (docs/statistics.md)."""
EXTREME = 0.05
"""A probability of improvement this close to 0 or 1 gets the score interval."""
RESAMPLES = 10_000
MINIMUM_SEEDS = 3
"""With fewer seeds than this, an interval says nothing and none is given."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and the ends of its 95% interval, each of the statistic's shape.

    Attributes:
        value: The statistic.
        low: Lower end of the interval; ``None`` with too few seeds.
        high: Upper end of the interval; ``None`` with too few seeds.
        p_value: Of the hypothesis that the statistic is a number, two-sided: 0.05 at the ends of
            the interval. ``None`` if there is no interval.
    """

    value: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    p_value: Callable[[float], FloatArray] | None = None


def mean_of_means(*strata: FloatArray, axis: int = 0) -> FloatArray:
    """Mean of the strata's means: every task counts the same."""
    return np.asarray(np.mean([stratum.mean(axis=axis) for stratum in strata], axis=0))


def aggregate_iqm(*strata: FloatArray, axis: int = 0) -> FloatArray:
    """Interquartile mean: the mean without the lowest and the highest 25% of all samples.

    The number cut at each end is rounded down: of 10 samples it is 2, of 3 it is none. SciPy's
    ``trim_mean(..., 0.25)``, of which the bootstrap takes thousands, in a third of its time.
    """
    samples = np.moveaxis(np.concatenate(strata, axis=axis), axis, -1)
    samples.sort(axis=-1)
    cut = samples.shape[-1] // 4
    return np.asarray(samples[..., cut : samples.shape[-1] - cut].mean(axis=-1))


def aggregate_optimality_gap(*strata: FloatArray, target: float, axis: int = 0) -> FloatArray:
    """By how much the samples of all strata miss a target on average; what exceeds it is ignored.

    Args:
        *strata: Scores.
        target: In the same units: 1 for normalised scores, `Task.reward_threshold` for returns.
        axis: That of the samples.
    """
    missed = np.maximum(target - np.concatenate(strata, axis=axis), 0)
    return np.asarray(missed.mean(axis=axis))


def probability_of_improvement(
    x_scores: FloatArray, y_scores: FloatArray, *, axis: int = 0
) -> FloatArray:
    """Probability that a run of X scores higher than a run of Y, where a tie is one half.

    The Mann-Whitney U statistic divided by the number of pairs, as in rliable. Its interval:
    `improvement`.

    Args:
        x_scores: One for each run; the number of runs may differ.
        y_scores: Likewise.
        axis: That of the runs.
    """
    x = np.moveaxis(x_scores, axis, -1)[..., :, np.newaxis]
    y = np.moveaxis(y_scores, axis, -1)[..., np.newaxis, :]
    return np.asarray(((x > y).mean(axis=(-2, -1)) + (x >= y).mean(axis=(-2, -1))) / 2)


def performance_profile(*strata: FloatArray, taus: FloatArray) -> Estimate:
    """Share of runs that score more than each of some scores, with pointwise intervals.

    rliable's run-score distribution: the mean over tasks of their shares.

    Args:
        *strata: One array of scores for each task, shape (seeds,).
        taus: Scores, shape (points,).

    Returns:
        Shares in [0, 1], shape (points,).
    """
    # Between two scores all returns have the same share: each is worked out once.
    above = np.concatenate(strata)[:, np.newaxis] > taus
    distinct, index = np.unique(above, axis=1, return_inverse=True)
    ends = np.cumsum([len(stratum) for stratum in strata])[:-1]
    shares = interval_estimates(mean_of_means, *np.split(distinct.astype(np.float64), ends))
    if shares.low is None or shares.high is None:
        return Estimate(shares.value[index], None, None)
    return Estimate(shares.value[index], shares.low[index], shares.high[index])


def interval_estimates(
    statistic: Statistic, *strata: FloatArray, seed: int = 0, level: float = PERCENTILE_LEVEL
) -> Estimate:
    """Return a statistic with its 95% stratified bootstrap percentile interval.

    Seeds are drawn with replacement within each stratum, never across: each task is a stratum, and
    so is each side of a comparison. A row of curves is drawn as a whole, so the intervals along a
    curve are pointwise.

    Args:
        statistic: Takes the strata and ``axis``, as `aggregate_iqm` does.
        *strata: One array for each task or side, of shape (seeds, ...).
        seed: Seed of the resampling.
        level: Nominal level, by which the interval covers 95%.

    Returns:
        The estimate, without an interval if a stratum has fewer than three seeds or a sample is
        not a finite number.
    """
    finite = all(np.isfinite(stratum).all() for stratum in strata)
    value = statistic(*strata)
    if min(map(len, strata)) < MINIMUM_SEEDS or not finite or not np.isfinite(value).all():
        return Estimate(value, None, None)
    found = bootstrap(
        strata,
        statistic,
        axis=0,
        n_resamples=RESAMPLES,
        batch=1000,  # bounds the memory that curves take
        confidence_level=level,
        method="percentile",
        paired=False,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    drawn = found.bootstrap_distribution
    interval = found.confidence_interval
    return Estimate(
        value, interval.low, interval.high, lambda at: _percentile_p_value(drawn, at, level)
    )


def _percentile_p_value(drawn: FloatArray, at: float, level: float) -> FloatArray:
    """Return the p-value of a number by a percentile interval: 0.05 at the ends of the nominal."""
    beyond = np.minimum((drawn <= at).mean(axis=-1), (drawn >= at).mean(axis=-1))
    widened = (1 - CONFIDENCE_LEVEL) / (1 - level)
    return np.asarray(np.minimum(2 * beyond * widened, 1))


def improvement(*tasks: tuple[FloatArray, FloatArray]) -> Estimate:
    """Return the probability of improvement of X over Y, averaged over tasks, with its interval.

    That of Brunner and Munzel, whose variance allows for other spreads and for ties, on the scale
    of the logit, with their degrees of freedom. Beyond 0.95 and below 0.05 few runs make all of
    that variance, or none: there it is Wilson's score interval with the largest variance that the
    probability can have, p (1 - p) over the smaller number of runs. A task of several whose runs
    are separated completely, or tie completely, has the variance of that. Runs without a result
    are minus infinity: below the others.

    Brunner and Munzel, "The nonparametric Behrens-Fisher problem", Biometrical Journal 2000; for
    the bound: Birnbaum and Klose, Annals of Mathematical Statistics 1957.

    Args:
        *tasks: The scores of X and of Y, each of shape (..., runs).

    Returns:
        Of shape (...), without an interval if a side has fewer than three runs. NaN if a score is.
    """
    sizes = [(x.shape[-1], y.shape[-1]) for x, y in tasks]
    placed = [_placements(x, y) for x, y in tasks]
    chances = np.array([chance for chance, _ in placed])
    value = np.asarray(chances.mean(axis=0))
    if np.min(sizes) < MINIMUM_SEEDS or np.isnan(value).any():
        return Estimate(value, None, None)
    # Variances of both sides' means, task by task, as parts of the variance of the average.
    parts = np.concatenate([variances for _, variances in placed]) / len(tasks) ** 2
    own = np.concatenate(sizes).reshape(-1, *[1] * value.ndim) - 1.0
    variance = parts.sum(axis=0)
    freedom: FloatArray = variance**2 / (parts**2 / own).sum(axis=0)
    apart = (value < EXTREME) | (value > 1 - EXTREME)
    inner = np.where(apart, 0.5, value)
    error = np.sqrt(variance) / (inner * (1 - inner))
    reach = t.ppf((1 + CONFIDENCE_LEVEL) / 2, freedom) * error
    # Means of so many coin tosses as the smaller side has runs vary as much at most.
    bound = np.sum([1 / min(size) for size in sizes]) / len(tasks) ** 2
    low, high = (
        np.where(apart, end, expit(logit(inner) + sign * reach))
        for sign, end in zip((-1, 1), _wilson(value, bound), strict=True)
    )

    def p_value(at: float) -> FloatArray:
        by_score = norm.sf(np.abs(value - at) / np.sqrt(at * (1 - at) * bound))
        by_logit = t.sf(np.abs(logit(inner) - logit(at)) / error, freedom)
        return np.asarray(2 * np.where(apart, by_score, by_logit))

    return Estimate(value, low, high, p_value)


def _placements(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return one task's probability of improvement, and the variance that each side gives it.

    Returns:
        Shapes (...) and (2, ...).
    """
    ours, theirs = x[..., :, np.newaxis], y[..., np.newaxis, :]
    wins = ((ours > theirs).astype(np.float64) + (ours >= theirs)) / 2
    chance = wins.mean(axis=(-2, -1))
    chance = np.where(np.isnan(x).any(axis=-1) | np.isnan(y).any(axis=-1), np.nan, chance)
    sizes = x.shape[-1], y.shape[-1]
    if min(sizes) < MINIMUM_SEEDS:
        return chance, np.full((2, *chance.shape), np.nan)
    variances = np.array(
        [
            wins.mean(axis=axis).var(axis=-1, ddof=1) / size
            for axis, size in zip((-1, -2), sizes, strict=True)
        ]
    )
    # Where all runs are separated, or tied, there is none: as far as the score interval reaches.
    low, high = _wilson(chance, 1 / min(sizes))
    reach = np.maximum(chance - low, high - chance)
    flat = variances.sum(axis=0) < 1e-12
    return chance, np.where(flat, (reach / NORMAL_QUANTILE) ** 2 / 2, variances)


def _wilson(chance: FloatArray, bound: float) -> tuple[FloatArray, FloatArray]:
    """Return Wilson's score interval of a probability p with variance p (1 - p) times a bound."""
    squared = NORMAL_QUANTILE**2 * bound
    middle = chance + squared / 2
    reach = np.sqrt(squared * chance * (1 - chance) + squared**2 / 4)
    low, high = (middle - reach) / (1 + squared), (middle + reach) / (1 + squared)
    return np.where(chance <= 0, 0, low), np.where(chance >= 1, 1, high)
