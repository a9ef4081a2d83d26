"""A verdict for each of the paper's claims and for our own questions, from the records.

    python -m scripts.claims [results=results]

Writes ``CLAIMS.md`` and ``claims.json`` into the results' folder. The rules are in
`scripts.verdicts` and `scripts.checks`.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.checks import (
    ALGORITHMS,
    COARSE_ALPHAS,
    RESET_ALPHAS,
    Arms,
    adam,
    alphagrad,
    better_check,
    competitive_check,
    critical_check,
    family,
    interaction_check,
    memory_check,
    stability_check,
    stateless_check,
    substantial_check,
    theory_checks,
)
from scripts.files import write
from scripts.records import RecordError, load_study
from scripts.settings import ResultsSettings, SettingsError, parse
from scripts.statistics import RESAMPLES, Arm, arms_of
from scripts.theory import Theory, load_theory
from scripts.verdicts import FEWEST_SEEDS, Check, Number, Verdict, combine

RESETS = "dqn_resets"
"""The study of the author's reset handling. Its question was added with it, under `dqn`'s rule."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a question of ours.

    Attributes:
        id: Short name.
        text: What is claimed or asked.
        source: ``paper`` or ``ours``.
        checks: What has to hold.
    """

    id: str
    text: str
    source: Literal["paper", "ours"]
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """What the checks come to together."""
        return combine([check.verdict for check in self.checks])

    @property
    def answer(self) -> str:
        """The verdict in words: a question is answered by yes or no."""
        if self.source == "paper":
            return self.verdict
        return {Verdict.REPRODUCED: "yes", Verdict.NOT_REPRODUCED: "no"}.get(
            self.verdict, self.verdict
        )

    @property
    def decisive(self) -> list[str]:
        """A line for each check: the number that decides it, or what it lacks."""
        lines = [
            f"{check.numbers[0].name}: {number_text(check.numbers[0])}"
            if check.numbers
            else check.change
            for check in self.checks
        ]
        return list(dict.fromkeys(lines))


def questions(study: str, arms: Arms) -> list[Claim]:
    """Our questions on one algorithm, from its fair study."""
    name, fair = ALGORITHMS[study], f"{study}_fair"
    coarse = alphagrad(fair, arms, COARSE_ALPHAS)
    asked = {
        "tuned-adam": (
            f"Is AlphaGrad better than Adam with {name} if Adam is tuned as much?",
            alphagrad(fair, arms),
            family("Adam", fair, arms, "adam", 6),
        ),
        "without-momentum": (
            f"Is AlphaGrad without momentum, and so without state, better than Adam with {name}?",
            family("AlphaGrad without momentum", fair, arms, "alphagrad-stateless", 3),
            adam(fair, arms),
        ),
        "sign-sgd": (
            f"Is AlphaGrad with {name} better than sign SGD, or is it just that?",
            coarse,
            family("sign SGD", fair, arms, "sign_sgd", 3),
        ),
        "normalized-sgd": (
            f"Is AlphaGrad with {name} better than normalised SGD, or is the tanh idle?",
            coarse,
            family("normalised SGD", fair, arms, "normalized_sgd", 3),
        ),
    }
    return [
        Claim(f"{study}-{key}", text, "ours", (better_check("Higher final scores", x, y),))
        for key, (text, x, y) in asked.items()
    ]


def claims(arms: Arms, theory: list[Theory]) -> list[Claim]:
    """All claims of the paper, then our questions."""
    paper: dict[str, tuple[str, tuple[Check, ...]]] = {
        "memory": (
            "Less optimizer memory than Adam; stateless without momentum",
            (memory_check(arms), stateless_check(arms)),
        ),
        "theory": (
            "Non-convex convergence to a stationary point; the rate carries 1/tanh(alpha)",
            theory_checks(theory),
        ),
        "dqn": (
            "Off-policy DQN: AlphaGrad is unstable next to Adam",
            (stability_check("dqn", arms, "Less stable training, even at its best alpha", 1),),
        ),
        "td3": (
            "TD3: more stable training, competitive returns, but alpha has to be tuned with care",
            (
                stability_check("td3", arms, "More stable training, at its best alpha", -1),
                competitive_check("td3", arms),
                critical_check("td3", arms),
            ),
        ),
        "ppo": (
            "On-policy PPO: substantially better than Adam",
            (substantial_check("ppo", arms),),
        ),
        "alpha": (
            "The choice of alpha is critical and interacts with the RL algorithm",
            (*(critical_check(study, arms) for study in ALGORITHMS), interaction_check(arms)),
        ),
    }
    resets = stability_check(
        RESETS, arms, "Less stable training, even at its best alpha", 1, RESET_ALPHAS
    )
    return [
        *(Claim(key, text, "paper", checks) for key, (text, checks) in paper.items()),
        *(claim for study in reversed(ALGORITHMS) for claim in questions(study, arms)),
        Claim(
            "dqn-resets",
            "Is AlphaGrad unstable next to Adam with DQN if resets are stored as transitions, as "
            "by the author's script?",
            "ours",
            (resets,),
        ),
    ]


def to_json(found: list[Claim]) -> str:
    """The claims as JSON, with verdicts in words and null for what is not a finite number."""
    rows = [
        {"id": claim.id, "text": claim.text, "source": claim.source, "verdict": claim.answer}
        | {"checks": [asdict(check, dict_factory=_finite) for check in claim.checks]}
        for claim in found
    ]
    return json.dumps({"claims": rows}, indent=1, allow_nan=False) + "\n"


def _finite(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields
    }


def to_markdown(found: list[Claim]) -> str:
    """The claims as a page: a table of verdicts, then what each rests on."""
    lines = [
        "# Claims",
        "",
        "Made by `python -m scripts.claims` from the records beside this page. The rules stand in "
        "`scripts/verdicts.py` and `scripts/checks.py`: a claim is reproduced if all of its checks "
        f"are, and not reproduced if one is not. A verdict needs {FEWEST_SEEDS} seeds of every "
        f"arm. In brackets: 95% bootstrap intervals, {RESAMPLES:,} resamples; with five seeds they "
        "are somewhat too narrow. Where an optimizer has several settings, each seed counts with "
        "the one that was chosen by final score on all other seeds. No correction is made for the "
        "number of claims.",
        "",
    ]
    for source, heading, verdict in (
        ("paper", "Claim of the paper", "Verdict"),
        ("ours", "Our question", "Answer"),
    ):
        lines += [f"| Id | {heading} | {verdict} |", "| --- | --- | --- |"]
        lines += [
            f"| [{claim.id}](#{claim.id}) | {claim.text} | **{claim.answer}** |"
            for claim in found
            if claim.source == source
        ]
        lines.append("")
    for claim in found:
        lines += [f"## {claim.id}", "", f"{claim.text}: **{claim.answer}**.", ""]
        for check in claim.checks:
            rests = ", ".join(f"{count} of {study}" for study, count in check.runs.items())
            verdict = f": *{check.verdict}*" * (len(claim.checks) > 1)
            lines += [
                f"### {check.statement}{verdict}" if verdict else f"**{check.statement}**",
                "",
            ]
            lines += [f"- {number.name}: {number_text(number)}" for number in check.numbers]
            lines += [
                f"- Rests on: {rests or 'no runs'}.",
                f"- Rule: {check.rule}",
                f"- What would change it: {check.change}",
                "",
            ]
    return "\n".join(lines[:-1]) + "\n"


def number_text(number: Number) -> str:
    """A number's value, with its interval in brackets if it has one."""
    if number.low is None or number.high is None:
        return _digits(number.value)
    return f"{_digits(number.value)} [{_digits(number.low)}, {_digits(number.high)}]"


def _digits(value: float) -> str:
    if math.isnan(value):
        return "-"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_claims(results: Path) -> list[Claim]:
    """Judges the records below a folder, writes ``CLAIMS.md`` and ``claims.json`` there.

    Raises:
        SettingsError: If there is no such folder.
        RecordError: If records cannot be used.
    """
    if not results.is_dir():
        raise SettingsError(f"results={results}: no such folder")
    names = [*(name for study in ALGORITHMS for name in (study, f"{study}_fair")), RESETS]
    with_records = [name for name in names if any((results / name / "records").glob("*.json"))]
    arms: dict[str, list[Arm]] = {name: [] for name in names}
    arms |= {name: arms_of(load_study(results / name)) for name in with_records}
    found = claims(arms, load_theory(results))
    write(results / "CLAIMS.md", to_markdown(found).encode())
    write(results / "claims.json", to_json(found).encode())
    return found


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code, 2 for a mistake told in one line."""
    try:
        usage = "python -m scripts.claims [results=<folder>]"
        results = Path(parse(ResultsSettings, arguments, usage).results)
        found = write_claims(results)
    except (RecordError, SettingsError) as error:
        print(f"claims: {error}", file=sys.stderr)
        return 2
    for claim in found:
        print(f"{claim.id:22} {claim.answer}")
    print(results / "CLAIMS.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
