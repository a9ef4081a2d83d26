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
from scripts.records import Study

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
THEORY_FIGURES = {draw.__name__: draw for draw in (gradient_norm_bound, counterexample)}
__all__ = ["FIGURES", "PAPER_STUDIES", "STUDY_FIGURES", "THEORY_FIGURES"]

FIGURES = ["overview", *STUDY_FIGURES, *THEORY_FIGURES]
