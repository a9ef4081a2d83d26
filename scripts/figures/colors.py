"""The colours of all figures and pages, from ``configs/colors.yaml``."""

from collections.abc import Iterable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from scripts.scores import Arm
from scripts.settings import load_yaml
from scripts.studies import Family

PATH = Path(__file__).parents[2] / "configs" / "colors.yaml"
INK = "#000000"
"""The baseline at its default."""

Hex = Annotated[str, Field(pattern="^#[0-9A-Fa-f]{6}$")]
Shades = Annotated[tuple[Hex, ...], Field(min_length=2)]


class FamilyColors(BaseModel):
    """A family's colours.

    Attributes:
        color: Where the family is shown once.
        shades: From its setting's lowest value to its highest.
        scale: Those two values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    color: Hex
    shades: Shades
    scale: tuple[PositiveFloat, PositiveFloat]


class Colors(BaseModel):
    """The colours of families by name, and of families without a name here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: dict[str, FamilyColors]
    others: Annotated[tuple[Shades, ...], Field(min_length=1)]


@cache
def load_colors(path: Path = PATH) -> Colors:
    """Return the colours.

    Raises:
        SettingsError: If the file cannot be read or has a mistake.
    """
    return load_yaml(path, Colors)


def arm_colors(arms: Iterable[Arm]) -> dict[str, str]:
    """Return each arm's colour, by its name: black for the baseline, or else its value's shade."""
    groups = by_family(arms)
    shades = _shades(groups)
    found = {}
    for name, own in groups.items():
        ramp = LinearSegmentedColormap.from_list(name, shades[name])
        colors = load_colors().families.get(name)
        for index, arm in enumerate(own):
            if colors and arm.value > 0:
                low, high, here = np.log([*colors.scale, arm.value])
                place = (here - low) / (high - low)
            else:
                place = index / max(len(own) - 1, 1)
            found[arm.name] = INK if arm.is_baseline else to_hex(ramp(np.clip(place, 0.0, 1.0)))
    return found


def family_colors(families: Iterable[Family]) -> dict[str, str]:
    """Return each family's own colour, by its name."""
    named = load_colors().families
    shades = _shades(family.name for family in families)
    return {
        name: named[name].color if name in named else own[len(own) // 2]
        for name, own in shades.items()
    }


def tuned_baseline_color(family: Family) -> str:
    """Return the colour of the baseline's family where its default is black beside it."""
    (shades,) = _shades([family.name]).values()
    return to_hex(LinearSegmentedColormap.from_list(family.name, shades)(0.5))


def _shades(names: Iterable[str]) -> dict[str, Shades]:
    colors = load_colors()
    others = cycle(colors.others)
    return {
        name: colors.families[name].shades if name in colors.families else next(others)
        for name in names
    }


def by_family(arms: Iterable[Arm]) -> dict[str, list[Arm]]:
    """Return the arms of each family, in their order."""
    families: dict[str, list[Arm]] = {}
    for arm in arms:
        families.setdefault(arm.family.name, []).append(arm)
    return families
