"""What the updates were like: how far tanh saturates, and how large each tensor's step is."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scripts.figures.curves import step_axis
from scripts.figures.plot import (
    NothingToDrawError,
    Plot,
    Size,
    caption,
    four_across,
    looks,
    panels,
    title,
)
from scripts.scores import Arm, arms_of
from scripts.studies import Study, Task

FLOOR = 1e-8
"""Smaller updates than this are drawn here: a logarithmic axis has no 0, and parameters of usual
size in float32 hardly change by less."""


NEEDS = "diagnostics of the updates, which the records of {} lack"


def saturated_share(study: Study, task: Task) -> Plot:
    """Return the subject's share of saturated elements against steps.

    Raises:
        NothingToDrawError: If no record has it, or none says how many elements a tensor has.
    """
    arms = [arm for arm in arms_of(study, task) if arm.is_subject]
    tensors = _tensor_data(arms, "saturated_share")
    if tensors.empty:
        raise NothingToDrawError(NEEDS.format("the study's subject"))
    tensors["elements"] = tensors["tensor"].map(_elements(study, task))
    if tensors["elements"].isna().any():
        raise NothingToDrawError("a record of the task with the number of each tensor's elements")
    tensors["value"] *= tensors["elements"]
    sums = tensors.groupby(["arm", "seed", "step"], sort=False)[["value", "elements"]].sum()
    data = _median((sums["value"] / sums["elements"]).reset_index(name="value"), "arm", "step")
    styles = looks(arms)

    def draw(size: Size) -> Figure:
        figure = Figure(figsize=(size.width, 2.4))
        axes = figure.add_subplot()
        for arm, own in data.groupby("arm", sort=False):
            look = styles[str(arm)]
            axes.plot(own["step"], own["value"], color=look.color, marker=".", label=look.label)
        step_axis(axes, task)
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_xlabel("Environment steps")
        axes.set_ylabel("Saturated elements")
        figure.legend(loc="outside right upper")
        title(figure, study, task)
        return figure

    marks = (
        "Lines: share of all elements that have |tanh(α g / |g|)| at least 0.99 in one update, "
        f"median over {_seeds(data)}."
    )
    text = caption(study, task, marks, intervals=False)
    return Plot(f"Saturated elements of {arms[0].family.title}'s updates", text, data, draw)


def update_size(study: Study, task: Task) -> Plot:
    """Return the root mean square of each tensor's updates against steps, baseline and subject.

    Raises:
        NothingToDrawError: If no record has it.
    """
    arms = [arm for arm in arms_of(study, task) if arm.is_baseline or arm.is_subject]
    tensors_of = _tensor_data(arms, "update_rms")
    if tensors_of.empty:
        raise NothingToDrawError(NEEDS.format("the baseline and of the study's subject"))
    data = _median(tensors_of, "arm", "tensor", "step")
    styles = looks(arms)
    shown = list(data["arm"].unique())
    tensors = list(data["tensor"].unique())
    kinds = {tensor: ("-" if tensor.endswith("weight") else ":") for tensor in tensors}

    def draw(size: Size) -> Figure:
        figure, grid, lowest = panels(four_across(size), len(shown), 1.25, sharex=True, sharey=True)
        for axes, arm in zip(grid, shown, strict=True):
            for tensor, own in data[data["arm"] == arm].groupby("tensor", sort=False):
                axes.plot(
                    own["step"],
                    np.maximum(own["value"], FLOOR),
                    color=styles[arm].color,
                    linestyle=kinds[str(tensor)],
                    linewidth=0.7,
                    alpha=0.8,
                )
            step_axis(axes, task)
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(styles[arm].label, color=styles[arm].color)
            axes.tick_params(labelbottom=axes in lowest)
        figure.supxlabel("Environment steps")
        figure.supylabel("Root mean square")
        title(figure, study, task)
        return figure

    marks = (
        f"Lines: the policy's {len(tensors)} tensors, solid for weights and dotted for biases and "
        f"the rest, median over {_seeds(data)} of the root mean square of one update."
    )
    if (data["value"] < FLOOR).any():
        marks += f" What is smaller than {FLOOR:g}, or 0, is drawn there."
    text = caption(study, task, marks, intervals=False)
    return Plot("Size of each tensor's updates", text, data, draw)


def _tensor_data(arms: list[Arm], quantity: str) -> pd.DataFrame:
    """Return a diagnostic by arm, seed, tensor and step; empty if no record has it."""
    return pd.DataFrame(
        {"arm": arm.name, "seed": record.seed, "tensor": tensor, "step": step, "value": value}
        for arm in arms
        for record in arm.records
        if record.diagnostics is not None
        for tensor, found in record.diagnostics.tensors.items()
        for step, value in zip(
            record.diagnostics.step, getattr(found, quantity) or (), strict=False
        )
        if value is not None
    )


def _elements(study: Study, task: Task) -> dict[str, int]:
    """Return how many elements each tensor has, from any record of the task that says so."""
    found: dict[str, int] = {}
    for arm in study.arms_of(task):
        for record in arm.records:
            if record.diagnostics is not None:
                found |= record.diagnostics.elements
    return found


def _median(data: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Return the median over seeds of a column ``value``, and how many seeds there are.

    The mean would mix a run whose actor no longer moves with those that train.
    """
    groups = data.groupby([*keys], sort=False)["value"]
    return groups.agg(seeds="size", value="median").reset_index()


def _seeds(data: pd.DataFrame) -> str:
    """Return how many seeds an arm's data are from, in words."""
    counts = sorted(set(data.groupby("arm")["seeds"].max()))
    seeds = "seed" if counts == [1] else "seeds"
    return f"the {' or '.join(map(str, counts))} {seeds} of each arm that have diagnostics"
