"""Draw all figures from the records. A figure's name is that of the function that draws it."""

from collections.abc import Callable

from scripts.convergence import Convergence
from scripts.figures.comparison import performance_profile, probability_of_improvement
from scripts.figures.convergence import counterexample, gradient_norm_bound, momentum_and_noise
from scripts.figures.curves import learning_curves
from scripts.figures.diagnostics import saturated_share, update_size
from scripts.figures.overview import overview
from scripts.figures.plot import Plot
from scripts.figures.sensitivity import sensitivity
from scripts.figures.setting import (
    area_against_setting,
    fall_against_setting,
    score_against_setting,
    score_by_two_settings,
)
from scripts.studies import Study, Task

TASK_FIGURES: dict[str, Callable[[Study, Task], Plot]] = {
    draw.__name__: draw
    for draw in (
        learning_curves,
        score_against_setting,
        area_against_setting,
        fall_against_setting,
        performance_profile,
        probability_of_improvement,
        sensitivity,
        score_by_two_settings,
        saturated_share,
        update_size,
    )
}
CONVERGENCE_FIGURES: dict[str, Callable[[Convergence], Plot]] = {
    draw.__name__: draw for draw in (gradient_norm_bound, momentum_and_noise, counterexample)
}
APART = {draw.__name__ for draw in (area_against_setting, performance_profile, update_size)}
"""Of the tasks' figures those that stand beside the records, and not on the report's page too."""
OVERVIEW, LEARNING_CURVES = overview.__name__, learning_curves.__name__
FIGURES = [OVERVIEW, *TASK_FIGURES, *CONVERGENCE_FIGURES]
