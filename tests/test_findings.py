"""results/FINDINGS.md is written by hand; its numbers are not.

A number with an interval has to stand as it is in a table or among the verdicts. Sentences that
count runs, or give bounds of their scores, are counted again. What is left has to be in a table or
a verdict, a run's final score, a setting of an arm, or in `GIVEN`, which says where it is from.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from scripts.scores import Arm, arms_of
from scripts.statistics import FloatArray
from scripts.studies import load_study, study_names

RESULTS = Path(__file__).parent.parent / "results"
TEXT = " ".join((RESULTS / "FINDINGS.md").read_text().split())
PAGES = "".join(path.read_text() for path in [RESULTS / "CLAIMS.md", *RESULTS.glob("*/table.md")])
NUMBER = re.compile(r"(?<![\w.,])-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e-?\d+)?%?(?!\w)")
GIVEN = {
    "1,442.64": "CleanRL's documentation of PPO",
    "46.03": "CleanRL's documentation of PPO",
    "488.69": "CleanRL's documentation of DQN",
    "16.11": "CleanRL's documentation of DQN",
    "3134.61": "CleanRL's documentation of TD3",
    "360.18": "CleanRL's documentation of TD3",
    "500": "the highest return of CartPole-v1",
    "235": "a run of the author's script",
    "464": "a run of the author's script",
    "291": "a run of the author's script",
    "214": "a run of the author's script",
    "1,108": "a run of the author's script",
    "256": "the width of TD3's layers",
    "50,000": "the steps after which an actor at alpha 100 was looked at",
    "3.5": "the version of MuJoCo that changed contacts",
}


@cache
def arms(study: str, family: str) -> list[Arm]:
    """The arms of a family on a study's first task."""
    loaded = load_study(RESULTS, study)
    task = loaded.tasks[0]
    return [arm for arm in arms_of(loaded, task) if arm.family.name == family]


def scores(study: str, family: str, *values: float) -> FloatArray:
    """The final scores of a family at some values, or at all."""
    chosen = [arm for arm in arms(study, family) if not values or arm.value in values]
    return np.concatenate([arm.scores for arm in chosen])


def last_100(study: str, family: str, value: float) -> FloatArray:
    """The mean returns of the last 100 episodes of a family at a value."""
    found = [
        a for a in load_study(RESULTS, study).arms if (a.family.name, a.value) == (family, value)
    ]
    return np.array([record.final_score for arm in found for record in arm.records])


def between(low: float, high: float, runs: FloatArray) -> tuple[int, int]:
    """How many runs there are between two scores, and how many in all."""
    return int(((runs > low) & (runs < high)).sum()), runs.size


COUNTED: dict[str, Callable[[], bool]] = {
    "nine of its ten seeds lie between 1,377 and 1,554": lambda: (
        between(1376.5, 1554.5, scores("ppo", "adam", 3e-4)) == (9, 10)
    ),
    "of Adam's ten runs one ends above 1,900, of AlphaGrad's fifty at alpha 0.3 to 30 twelve do": (
        lambda: (
            between(1900, np.inf, scores("ppo", "adam", 3e-4)) == (1, 10)
            and between(1900, np.inf, scores("ppo", "alphagrad", 0.3, 1, 3, 10, 30)) == (12, 50)
        )
    ),
    "on five seeds, two of which end below 1,300": lambda: (
        between(-np.inf, 1300, scores("ppo", "alphagrad-stateless", 1)) == (2, 5)
    ),
    "five of our ten runs end between 1,124 and 1,199": lambda: (
        between(1123.4, 1199.5, last_100("ppo", "alphagrad", 1)) == (5, 10)
    ),
    "seven of 14 runs at its two larger rates diverge": lambda: (
        [(sum(arm.diverged), arm.scores.size) for arm in arms("dqn_dropped", "sgd")]
        == [(0, 7), (4, 7), (3, 7)]
    ),
    "At alpha 1 no run passes 260": lambda: (
        between(260, np.inf, scores("td3", "alphagrad", 1)) == (0, 5)
    ),
    "at alpha 3 two of five pass 600": lambda: (
        between(600, np.inf, scores("td3", "alphagrad", 3)) == (2, 5)
    ),
    "At alpha 10 three of five learn to run, with Adam four of five": lambda: (
        between(1000, np.inf, scores("td3", "alphagrad", 10)) == (3, 5)
        and between(1000, np.inf, scores("td3", "adam")) == (4, 5)
    ),
    "all others end between -1 and 39": lambda: (
        between(-1.5, 39.5, scores("td3", "alphagrad", 30, 100, 300)) == (11, 15)
    ),
}


def test_numbers_with_intervals_are_those_of_the_tables() -> None:
    numbers = re.findall(r"[\d,.]*\d \[[^\]]*\d\]", TEXT)
    assert numbers
    assert [number for number in numbers if number not in PAGES] == []


@pytest.mark.parametrize("sentence", COUNTED)
def test_what_the_sentences_count_is_so(sentence: str) -> None:
    assert sentence in TEXT
    assert COUNTED[sentence]()


def test_all_other_numbers_have_a_source() -> None:
    text = TEXT
    for sentence in COUNTED:
        text = text.replace(sentence, "")
    text = re.sub(r"[\d,.]*\d \[[^\]]*\d\]|`[^`]*`|\]\([^)]*\)", " ", text)
    known = set(NUMBER.findall(PAGES)) | set(GIVEN)
    for name in study_names(RESULTS):
        for arm in load_study(RESULTS, name).arms:
            known |= {f"{arm.value:g}", f"{arm.value:.1e}".replace("e-0", "e-")}
            known |= {f"{record.final_score:,.0f}" for record in arm.records}
    known |= {f"{100 - int(number[:-1])}%" for number in known if re.fullmatch(r"\d+%", number)}
    found = NUMBER.findall(text)
    assert [number for number in found if number not in known] == []
    assert [number for number in GIVEN if number not in found] == []


def test_verdicts_on_the_papers_claims_are_the_judged_ones() -> None:
    claims = json.loads((RESULTS / "claims.json").read_text())["claims"]
    judged = {
        claim["id"]: claim["verdict"].partition(" (")[0]
        for claim in claims
        if claim["source"] == "paper"
    }
    told = dict(re.findall(r"\[(\w+)\]\(CLAIMS\.md#\w+\)[^|]*\| \*\*([a-z ]+)\*\*", TEXT))
    assert told == judged


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (RESULTS / link).exists()] == []
