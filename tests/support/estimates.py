"""Intervals that must be there."""

import numpy as np

from scripts.statistics import Estimate, FloatArray


def ends(estimate: Estimate) -> FloatArray:
    """The ends of an estimate's interval, the lower one first, shape (2, ...)."""
    assert estimate.low is not None
    assert estimate.high is not None
    return np.stack([estimate.low, estimate.high])
