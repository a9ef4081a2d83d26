from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from support.records import make_family, make_record, write_study

from scripts.figures.colors import INK, PATH, arm_colors, family_colors, load_colors
from scripts.scores import Arm, arms_of
from scripts.settings import SettingsError
from scripts.studies import load_study

Vector = NDArray[np.float64]
EYES = {
    "usual": np.eye(3),
    "red-blind": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green-blind": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue-blind": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""What linear red, green and blue become (Machado, Oliveira and Fernandes, 2009)."""
FIRST = ("adam", "alphagrad", "alphagrad-stateless", "normalized_sgd", "sign_sgd")


def lab(color: str, eye: Vector) -> Vector:
    """A colour in CIELAB, where 2 is the least difference that is seen."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.072175],
            [0.0193339, 0.119192, 0.9503041],
        ]
    ) @ np.clip(eye @ linear, 0, 1)
    x, y, z = np.cbrt(xyz / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def arms_in(results: Path, study: str, *arms: tuple[str, float], **fields: object) -> list[Arm]:
    write_study(results, study, *(make_record(*arm) for arm in arms), **fields)  # type: ignore[arg-type]
    loaded = load_study(results, study)
    return arms_of(loaded, loaded.tasks[0])


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_the_families_apart(eye: str) -> None:
    colors = [load_colors().families[name].color for name in FIRST]
    seen = [lab(color, np.array(EYES[eye])) for color in [*colors, "#FFFFFF"]]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 20


def test_shades_grow_lighter_and_leave_black_to_the_baseline() -> None:
    for family in load_colors().families.values():
        lightness = [lab(shade, np.eye(3))[0] for shade in family.shades]
        assert lightness == sorted(lightness)
        assert lightness[-1] < 90  # of 100, on white
        assert INK not in family.shades


def test_a_value_has_one_shade_in_all_studies(tmp_path: Path) -> None:
    few = arms_in(tmp_path, "few", ("adam", 3e-4), ("alphagrad", 10.0), ("sgd", 0.01))
    many = [("sgd", 0.1), ("sgd", 0.01), ("adam", 1e-3), ("adam", 3e-4)]
    many += [("alphagrad", alpha) for alpha in (0.1, 1.0, 10.0, 300.0)]
    first, second = arm_colors(few), arm_colors(arms_in(tmp_path, "many", *many))
    assert len(set(second.values())) == len(second)
    assert {name: second[name] for name in first} == first
    assert first["adam"] == INK


def test_families_without_colors_get_some_that_no_other_has(tmp_path: Path) -> None:
    names = [f"brew{number}" for number in range(4)]
    families = {name: make_family(name, "optimizer.heat", "t") for name in names}
    records = [
        make_record(name, value, tuned="optimizer.heat")
        for name in names
        for value in (-1.0, 0.0, 0.5)
    ]
    write_study(tmp_path, "brew", *records, families=families, baseline="brew0", subject="brew1")
    study = load_study(tmp_path, "brew")
    colors = arm_colors(arms_of(study, study.tasks[0]))
    assert len(set(colors.values())) == 12
    own = family_colors(study.manifest.families)
    assert len(set(own.values())) == 4
    assert own == family_colors(study.manifest.families)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "tomato"}, "families.adam.color: String should match pattern"),
        ({"scale": [0, 1]}, "families.adam.scale.0: Input should be greater than 0"),
        ({"shades": ["#000000"]}, "families.adam.shades: "),
        ({"tint": 1}, "families.adam.tint: Extra inputs"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    colors = yaml.safe_load(PATH.read_text())
    colors["families"]["adam"] |= change
    path = tmp_path / "colors.yaml"
    path.write_text(yaml.safe_dump(colors))
    with pytest.raises(SettingsError) as error:
        load_colors(path)
    assert f"{path}: {message}" in str(error.value)
    assert "\n" not in str(error.value)
