"""Draws all figures from the records."""

from collections.abc import Callable

from scripts.figures.alpha import (
    area_against_alpha,
    fall_against_alpha,
    score_against_alpha,
    score_by_learning_rate_and_alpha,
)
from scripts.figures.comparison import performance_profile, probability_of_improvement
from scripts.figures.curves import learning_curves
from scripts.figures.diagnostics import saturated_share, update_size
from scripts.figures.overview import PAPER_STUDIES
from scripts.figures.plot import Plot
from scripts.figures.theory import counterexample, gradient_norm_bound
from scripts.studies import Study

STUDY_FIGURES: dict[str, Callable[[Study], Plot | None]] = {
    draw.__name__: draw
    for draw in (
        learning_curves,
        score_against_alpha,
        area_against_alpha,
        fall_against_alpha,
        performance_profile,
        probability_of_improvement,
        score_by_learning_rate_and_alpha,
        saturated_share,
        update_size,
    )
}
SWEEP = "AlphaGrad at one alpha or more"
DIAGNOSTICS = "diagnostics of the updates of {}, which its records lack"
NEEDS = {
    "score_against_alpha": SWEEP,
    "area_against_alpha": SWEEP,
    "fall_against_alpha": SWEEP,
    "performance_profile": "a run in which an episode ended",
    "probability_of_improvement": "Adam, another arm and a run in which an episode ended",
    "score_by_learning_rate_and_alpha": (
        "AlphaGrad at several learning rates and several alphas, all else equal"
    ),
    "saturated_share": DIAGNOSTICS.format("the alpha sweep"),
    "update_size": DIAGNOSTICS.format("Adam or the alpha sweep"),
}
"""What a figure is not drawn without."""
THEORY_FIGURES = {draw.__name__: draw for draw in (gradient_norm_bound, counterexample)}
__all__ = ["FIGURES", "NEEDS", "PAPER_STUDIES", "STUDY_FIGURES", "THEORY_FIGURES"]

FIGURES = ["overview", *STUDY_FIGURES, *THEORY_FIGURES]
