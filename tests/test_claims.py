"""Claims from their files to their pages, over invented studies and over the committed one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.records import make_convergence, make_family, make_record, write_study

from scripts.claims import FOLDER, Claim, correct, load_statements, main
from scripts.verdicts import Check, Verdict

ROOT = Path(__file__).parents[1]
STEADY, FALLING = [0.0, 5.0, 8.0, 10.0], [0.0, 200.0, 0.0, 100.0]
SEEDS = 8
ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)

SNAILS = {
    "snail": make_family("Snail | <slow>", "algorithm.learning_rate", "lr", 0.1),
    "moon_walk": make_family("Moon walk", "optimizer.gravity", "g"),
    "zig.zag": make_family("Zig-zag", "optimizer.angle", "θ"),
}
QUESTIONS = """
moon-beats-snail:
  source: paper
  text: On hills, a moon walk is better than a snail's pace | at any price
  checks:
    - {rule: better, study: pace, task: Hill-v7}
    - {rule: critical, statement: Gravity matters, study: pace, task: Hill-v7}
zig-zag:
  source: ours
  text: Is a zig-zag better than <a> moon walk?
  checks:
    - rule: better
      study: pace
      subject: {family: zig.zag}
      against: {family: moon_walk}
    - rule: less_memory
      statement: It keeps less state
      over: [{study: pace, subject: {family: zig.zag}}]
"""


def pace() -> list[dict[str, Any]]:
    """A study of two tasks and three families, none of which any script has heard of."""
    scores = {("snail", 0.1): 10, ("snail", 1.0): 11, ("moon_walk", 0.2): 20}
    scores |= {("moon_walk", 1.6): 95, ("moon_walk", 9.8): 20, ("zig.zag", 45.0): 70}
    confirmed = [("snail", 0.1), ("moon_walk", 1.6), ("zig.zag", 45.0)]
    return [
        make_record(
            family,
            value,
            seed,
            score=score + (seed % 100) / 4,
            returns=[5.0] * 4,
            environment=environment,
            tuned=SNAILS[family]["tuned"],
            protocol="footpath",
            stage=stage,
        )
        for environment in ("Hill-v7", "Lake-v0")
        for (family, value), score in scores.items()
        for stage, first in (("tune", 0), ("confirm", 100))
        if stage == "tune" or (family, value) in confirmed
        for seed in range(first, first + SEEDS)
    ]


def write_pace(results: Path) -> None:
    fields = {"baseline": "snail", "subject": "moon_walk"}
    write_study(results, "pace", *pace(), families=SNAILS, **fields)


def write_claims_of(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "own.yaml").write_text(text)
    return f"claims={folder}"


def verdicts(results: Path, *arguments: str) -> dict[str, Any]:
    assert main([f"results={results}", *arguments]) == 0
    found = json.loads((results / "claims.json").read_text())["claims"]
    return {claim["id"]: claim for claim in found}


def test_claims_of_ones_own_over_invented_names(tmp_path: Path) -> None:
    write_pace(tmp_path)
    own = write_claims_of(tmp_path / "claims", QUESTIONS)
    found = verdicts(tmp_path, own)
    assert {name: claim["verdict"] for name, claim in found.items()} == {
        "moon-beats-snail": "reproduced",
        "zig-zag": "no",
    }
    claim = found["moon-beats-snail"]
    assert claim["runs"] == {"planned": 16 + 40, "done": 16 + 40}
    assert claim["verdicts"] == {"training return": "reproduced", "evaluation return": "reproduced"}
    assert all(value < 0.05 for value in claim["corrected_p_values"].values())
    better, _, critical, _ = claim["checks"]
    assert "Moon walk (moon_walk-g1.6) against Snail | <slow> (snail)" in better["statement"]
    assert better["measure"] == "training return"
    assert better["runs"] == {"pace": 16}
    assert critical["numbers"][0]["name"].startswith("decades of Moon walk's g less those of Snail")
    first, second, memory = found["zig-zag"]["checks"]
    assert first["statement"].startswith("Higher returns: Zig-zag (zig.zag-θ45)")
    assert second["measure"] == "evaluation return"
    assert memory["measure"] is None
    assert len(memory["numbers"]) == 2

    page, data = (tmp_path / "CLAIMS.md").read_text(), (tmp_path / "claims.json").read_bytes()
    assert (
        "| [moon-beats-snail](#moon-beats-snail) | On hills, a moon walk is better than a snail's "
        r"pace \| at any price | **reproduced** |" in page
    )
    assert "\n## zig-zag\n\nIs a zig-zag better than &lt;a> moon walk?: **no**.\n" in page
    assert "- probability of improvement: 1 [0.68, 1]" in page
    assert "- Rests on: 16 of pace." in page
    verdicts(tmp_path, own)
    assert (tmp_path / "CLAIMS.md").read_text() == page
    assert (tmp_path / "claims.json").read_bytes() == data


def test_a_claim_of_which_the_measures_differ_depends_on_them(tmp_path: Path) -> None:
    records = pace()
    for record in records:
        if record["family"] == "moon_walk":
            record["evaluation"]["returns"] = [[0.0]] * 4
    fields = {"baseline": "snail", "subject": "moon_walk"}
    write_study(tmp_path, "pace", *records, families=SNAILS, **fields)
    found = verdicts(tmp_path, write_claims_of(tmp_path / "claims", CHECK))
    answer = "depends on the measure (training return: yes, evaluation return: no)"
    assert found["q"]["verdict"] == answer


def test_a_missing_run_is_counted_and_named(tmp_path: Path) -> None:
    write_pace(tmp_path)
    run = next(r for r in pace() if (r["family"], r["seed"]) == ("moon_walk", 103))
    next(tmp_path.glob(f"records/*{run['identity']}.json")).unlink()
    found = verdicts(tmp_path, write_claims_of(tmp_path / "claims", CHECK))
    assert found["q"]["verdict"] == "incomplete (31 of 32 runs)"
    page = (tmp_path / "CLAIMS.md").read_text()
    assert "Tuning runs, exploratory:" in page
    assert "planned: moon_walk-g1.6 on Hill-v7 of pace, seeds 103." in page


def test_the_papers_claims_are_corrected_for_their_number(tmp_path: Path) -> None:
    write_pace(tmp_path)
    many = "".join(CHECK.replace("q:", f"q{n}:").replace("ours", "paper") + "\n" for n in range(3))
    found = verdicts(tmp_path, write_claims_of(tmp_path / "claims", many))
    for claim in found.values():
        for check in claim["checks"]:
            corrected = claim["corrected_p_values"][check["measure"]]
            assert corrected == pytest.approx(3 * check["p_value"])


def test_a_decision_that_the_correction_takes_back_is_undecided() -> None:
    check = Check("", "", Verdict.REPRODUCED, (), {}, "", "training return", 0.03)
    claims = [Claim(f"c{n}", "", "paper", (check,)) for n in range(2)]
    ours = Claim("ours", "", "ours", (check,))
    first, second, own = correct([*claims, ours])
    assert first.verdict is second.verdict is Verdict.UNDECIDED
    assert (own.verdict, own.answer) == (Verdict.REPRODUCED, "yes")


def test_a_gain_over_a_baseline_that_learned_nothing_is_valid_json(tmp_path: Path) -> None:
    records = pace()
    for record in records:
        if record["family"] == "snail":
            record["curve"]["return_mean"] = [5.0] * 4  # untrained
    fields = {"baseline": "snail", "subject": "moon_walk"}
    write_study(tmp_path, "pace", *records, families=SNAILS, **fields)
    text = "q: {source: ours, text: So, checks: [{rule: substantial, study: pace}]}"
    verdicts(tmp_path, write_claims_of(tmp_path / "claims", text))
    text = (tmp_path / "claims.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text


CHECK = "q: {source: ours, text: So, checks: [{rule: better, study: pace}]}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHECK.replace("ours", "theirs"), "q.source = 'theirs': Input should be 'paper' or 'ours'"),
        (CHECK.replace("text: So", "text: 5"), "q.text = 5: Input should be a valid string"),
        (CHECK.replace("text: So, ", ""), "q.text: Field required"),
        (CHECK.replace("text", "txet"), "q.text: Field required"),
        (CHECK.replace("q:", "q: {}\nQ 1:"), "q.source: Field required"),
        (CHECK.replace("q:", "Q 1:"), "Q 1.[key] = 'Q 1': String should match pattern"),
        (CHECK.replace("better", "beter"), "q.checks.0: Input tag 'beter' found using 'rule' does"),
        (CHECK.replace("rule: better, ", ""), "q.checks.0: Unable to extract tag using discrim"),
        (CHECK.replace("study: pace", "study: [pace]"), "q.checks.0.study: Input should be a vali"),
        (CHECK.replace("study: pace", "stuy: pace"), "q.checks.0.study: Field required"),
        (CHECK.replace("}]", ", values: 1}]"), "q.checks.0.values = 1: Extra inputs are not perm"),
        (CHECK.replace("[{rule: better, study: pace}]", "[]"), "q.checks: List should have at le"),
        (CHECK.replace("}]", ", task: Sea}]"), "q.checks.0.task = 'Sea': should be one of study p"),
        (
            CHECK.replace("}]", ", subject: {family: snial}}]"),
            "q.checks.0.subject.family = 'snial': should be one of study pace's, snail, moon_w",
        ),
        (
            CHECK.replace("}]", ", against: {family: snail, at: 1}}]"),
            "q.checks.0.against.at = 1: Input should be 'chosen' or 'default'",
        ),
        (
            CHECK.replace("}]", ", subject: {family: zig.zag, at: default}}]"),
            "q.checks.0.subject.at = 'default': zig.zag has none in study pace",
        ),
        ("- a list", "Input should be a valid dictionary"),
        ("q: [", "own.yaml: "),
        ("q:\n\t- x", "own.yaml: "),
        (f"{CHECK}\n{CHECK}", "duplicate key q"),
        ("q: ${nothing}", "own.yaml: "),
        ("\x00", "own.yaml: "),
    ],
)
def test_a_mistake_in_a_claim_is_one_line_that_names_file_and_field(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pace(tmp_path)
    own = write_claims_of(tmp_path / "claims", text)
    assert main([f"results={tmp_path}", own]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"claims: {tmp_path / 'claims' / 'own.yaml'}: ")
    assert says in line
    assert not (tmp_path / "CLAIMS.md").exists()


def test_an_id_in_two_files_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_claims_of(tmp_path / "claims", CHECK)
    (tmp_path / "claims" / "a_first.yaml").write_text(CHECK)
    assert main([f"results={tmp_path}", own]) == 2
    assert "own.yaml: q: is already in a_first.yaml" in capsys.readouterr().err


def test_other_mistakes_are_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["result=x"]) == 2
    assert main([f"results={tmp_path / 'typo'}"]) == 2
    assert main([f"results={tmp_path}", f"claims={tmp_path / 'typo'}"]) == 2
    (tmp_path / "bytes.yaml").write_bytes(b"q: \xff\xfe")
    assert main([f"results={tmp_path}", f"claims={tmp_path}"]) == 2
    (tmp_path / "bytes.yaml").unlink()
    (tmp_path / "folder.yaml").mkdir()
    assert main([f"results={tmp_path}", f"claims={tmp_path}"]) == 2
    (tmp_path / "convergence").mkdir()
    (tmp_path / "convergence" / "torn.json").write_text("{")
    assert main([f"results={tmp_path}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = ("result", "typo: no such folder", "typo: no such", "bytes.yaml", "folder", "torn.json")
    assert [text in line for text, line in zip(said, lines, strict=True)] == [True] * 6


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from scripts.claims import main; "
        f"assert main([{f'results={tmp_path}'!r}]) == 0; "
        "assert not {'torch', 'stable_baselines3', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=True)


def write_sweep(
    results: Path, study: str, best: float, *, ours: list[float], theirs: list[float], gain: float
) -> None:
    """A study of the paper: one alpha is good; Adam is a share of it, at all of its rates."""
    arms = [("adam", rate, 100.0) for rate in (3e-5, 3e-4, 3e-3)]
    arms += [("alphagrad", alpha, 100 * gain if alpha == best else 20.0) for alpha in ALPHAS]
    arms += [("alphagrad-stateless", 1.0, 50.0)]
    confirmed = [("adam", 3e-4), ("alphagrad", best)]
    records = [
        make_record(
            family,
            value,
            seed,
            score=score + (seed % 100) / 10,
            returns=ours if family == "alphagrad" else theirs,
            environment=task,
            stage=stage,
        )
        for task in (f"{study}-1", f"{study}-2")
        for family, value, score in arms
        for stage, first in (("tune", 0), ("confirm", 100))
        if stage == "tune" or (family, value) in confirmed
        for seed in range(first, first + SEEDS)
    ]
    for record in records:
        record["optimizer"]["state_bytes"] *= record["family"] != "alphagrad-stateless"
    write_study(results, study, *records)


def the_papers(folder: Path) -> str:
    return write_claims_of(folder / "claims", (FOLDER / "paper.yaml").read_text())


def test_the_papers_claims_are_reproduced_where_they_hold(tmp_path: Path) -> None:
    write_sweep(tmp_path, "dqn", 3, gain=1, ours=FALLING, theirs=STEADY)
    write_sweep(tmp_path, "td3", 30, gain=1, ours=STEADY, theirs=FALLING)
    write_sweep(tmp_path, "ppo", 300, gain=2, ours=STEADY, theirs=STEADY)
    (tmp_path / "convergence").mkdir()
    for name, practice in (("0", {}), ("1", {"momentum": 0.9, "noise": 0.1})):
        record = json.dumps(make_convergence(**practice))
        (tmp_path / "convergence" / f"{name}.json").write_text(record)
    for claim in verdicts(tmp_path, the_papers(tmp_path)).values():
        assert claim["verdict"] == "reproduced", claim


def test_the_papers_claims_are_not_reproduced_where_they_do_not_hold(tmp_path: Path) -> None:
    write_sweep(tmp_path, "dqn", 3, gain=0.5, ours=STEADY, theirs=FALLING)
    write_sweep(tmp_path, "td3", 3, gain=0.5, ours=FALLING, theirs=STEADY)
    write_sweep(tmp_path, "ppo", 3, gain=0.5, ours=STEADY, theirs=STEADY)
    found = verdicts(tmp_path, the_papers(tmp_path))
    for claim in ("dqn", "td3", "ppo", "alpha"):
        assert found[claim]["verdict"] == "not reproduced", found[claim]


def test_the_papers_claims_come_first_in_the_order_of_their_file() -> None:
    sources = [statement.source for _, statement in load_statements(FOLDER).values()]
    assert sources == sorted(sources, reverse=True)
    assert [*load_statements(FOLDER)][:2] == ["memory", "theory"]


def test_the_committed_results_are_judged(tmp_path: Path) -> None:
    committed = ROOT / "results"
    for name in (
        "records",
        "convergence",
        *(p.parent.name for p in committed.glob("*/study.json")),
    ):
        (tmp_path / name).symlink_to(committed / name)
    assert main([f"results={tmp_path}"]) == 0
    for name in ("claims.json", "CLAIMS.md"):
        same = (tmp_path / name).read_text() == (committed / name).read_text()
        assert same, f"results/{name} is not that of the records: make claims"
