"""Verdicts from records whose answer is known."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from record_fixtures import make_record, make_theory, write_records
from test_checks import sweep as ppo_sweep

from scripts.checks import ALPHAS, RESET_ALPHAS
from scripts.claims import main
from scripts.verdicts import FEWEST_SEEDS

ROOT = Path(__file__).parents[1]
STEADY, FALLING = [0, 50, 80, 100], [0, 100, 20, 100]


def write_study(
    folder: Path,
    arms: dict[str, float],
    seeds: int = FEWEST_SEEDS,
    curve: Callable[[str, int], list[int]] = lambda arm, seed: STEADY,
) -> None:
    """Records of arms with a typical score; its seeds are a little higher each."""
    records = [
        make_record(arm, seed, score=score + seed, returns=curve(arm, seed), protocol=folder.name)
        for arm, score in arms.items()
        for seed in range(seeds)
    ]
    for record in records:
        record["configuration"]["environment"]["id"] = folder.name
        if "stateless" in record["arm"]:
            record["optimizer"]["state_bytes"] = 0
    write_records(folder, *records)


def sweep(*scores: float, adam: float) -> dict[str, float]:
    arms = {f"alphagrad-alpha{alpha}": score for alpha, score in zip(ALPHAS, scores, strict=True)}
    return {"adam": adam} | arms


def verdicts(results: Path) -> dict[str, Any]:
    assert main([f"results={results}"]) == 0
    found = json.loads((results / "claims.json").read_text())["claims"]
    return {claim["id"]: claim for claim in found}


def test_the_papers_claims_are_reproduced_where_they_hold(tmp_path: Path) -> None:
    def unsteady(arm: str, seed: int) -> list[int]:
        return STEADY if arm == "adam" else [0, 100, 60 - seed, 100]

    def steady(arm: str, seed: int) -> list[int]:
        return STEADY if arm != "adam" else [0, 100, 60 - seed, 100]

    write_study(tmp_path / "dqn", sweep(20, 90, 40, 20, 20, 20, adam=92), curve=unsteady)
    write_study(tmp_path / "td3", sweep(20, 30, 90, 30, 20, 20, adam=90), curve=steady)
    write_study(tmp_path / "ppo", sweep(20, 20, 20, 20, 90, 20, adam=50))
    write_study(tmp_path / "ppo_fair", {"alphagrad-stateless-alpha1": 1}, seeds=1)
    found = verdicts(tmp_path)
    for claim in ("memory", "dqn", "td3", "ppo", "alpha"):
        assert found[claim]["verdict"] == "reproduced", found[claim]
    assert found["theory"]["verdict"] == "undecided"
    (check,) = found["ppo"]["checks"]
    assert "AlphaGrad (alphagrad-alpha100) against Adam (adam)" in check["statement"]
    assert check["runs"] == {"ppo": 7 * FEWEST_SEEDS}
    chance, gain, *_ = check["numbers"]
    assert (chance["value"], chance["low"], chance["high"]) == (1, 1, 1)
    assert gain["value"] == pytest.approx(92 / 52 - 1)


def test_the_papers_claims_are_not_reproduced_where_they_do_not_hold(tmp_path: Path) -> None:
    def unsteady(arm: str, seed: int) -> list[int]:
        return STEADY if arm != "adam" else [0, 100, 60 - seed, 100]

    for study in ("dqn", "td3", "ppo"):
        write_study(tmp_path / study, sweep(80, 81, 82, 83, 83, 80, adam=100), curve=unsteady)
    found = verdicts(tmp_path)
    for claim in ("dqn", "td3", "ppo", "alpha"):
        assert found[claim]["verdict"] == "not reproduced", found[claim]
    interaction = found["alpha"]["checks"][-1]
    assert interaction["verdict"] == "not reproduced"
    assert len(interaction["numbers"]) == 6


def test_better_but_not_substantially_is_not_reproduced(tmp_path: Path) -> None:
    write_study(tmp_path / "ppo", sweep(1050, 1, 1, 1, 1, 1, adam=1000))
    claim = verdicts(tmp_path)["ppo"]
    assert claim["checks"][0]["numbers"][0]["value"] == 1
    assert claim["verdict"] == "not reproduced"


def test_an_advantage_that_tuning_or_sign_sgd_takes_away(tmp_path: Path) -> None:
    fair = sweep(20, 90, 40, 20, 20, 20, adam=50)
    fair |= {f"adam-lr{rate}": 10 for rate in (1e-5, 1e-4, 6e-4, 3e-3)} | {"adam-lr0.001": 100}
    fair |= {f"alphagrad-stateless-alpha{alpha}": 60 for alpha in (1, 10, 100)}
    fair |= {f"sign_sgd-lr{rate}": 1 for rate in (3e-6, 3e-5, 3e-4)}
    fair |= {f"normalized_sgd-lr{rate}": 45 for rate in (3e-4, 3e-3, 3e-2)}
    write_study(tmp_path / "ppo_fair", fair)
    found = verdicts(tmp_path)
    answers = {
        key: found[f"ppo-{key}"]["verdict"]
        for key in ("tuned-adam", "without-momentum", "sign-sgd", "normalized-sgd")
    }
    assert answers == {
        "tuned-adam": "no",
        "without-momentum": "yes",
        # With alpha 1, 10 and 100 only, since the rivals have three settings too.
        "sign-sgd": "yes",
        "normalized-sgd": "no",
    }
    assert "alphagrad-alpha10)" in found["ppo-sign-sgd"]["checks"][0]["statement"]
    assert found["dqn-tuned-adam"]["verdict"] == "undecided"


def test_resets_stored_as_transitions_make_alphagrad_unstable(tmp_path: Path) -> None:
    def unsteady(arm: str, seed: int) -> list[int]:
        return STEADY if arm == "adam" else [0, 100, 60 - seed, 100]

    scores = {"adam": 90.0} | {f"alphagrad-alpha{alpha}": 90.0 + alpha for alpha in RESET_ALPHAS}
    write_study(tmp_path / "dqn_resets", scores, curve=unsteady)
    found = verdicts(tmp_path)
    assert found["dqn-resets"]["verdict"] == "yes"
    assert found["dqn-resets"]["checks"][0]["runs"] == {"dqn_resets": 4 * FEWEST_SEEDS}
    assert found["dqn"]["verdict"] == "undecided"


def test_too_few_seeds_or_settings_are_undecided_and_say_so(tmp_path: Path) -> None:
    write_study(tmp_path / "ppo", sweep(1, 1, 1, 1, 1, 90, adam=50), seeds=FEWEST_SEEDS - 1)
    arms = sweep(1, 1, 1, 1, 1, 90, adam=50)
    del arms["alphagrad-alpha30"]
    write_study(tmp_path / "dqn", arms)
    found = verdicts(tmp_path)
    assert found["ppo"]["verdict"] == found["dqn"]["verdict"] == "undecided"
    assert found["ppo"]["checks"][0]["change"] == "More runs: AlphaGrad has 4 of 5 seeds in ppo."
    assert "5 of 6 settings in dqn" in found["dqn"]["checks"][0]["change"]


def test_the_theory_is_judged_from_its_record(tmp_path: Path) -> None:
    path = tmp_path / "theory" / "0.json"
    path.parent.mkdir()
    path.write_text(json.dumps(make_theory()))
    assert verdicts(tmp_path)["theory"]["verdict"] == "reproduced"
    path.write_text(json.dumps(make_theory(slope=None, min_gradient_norm=[1.5])))
    assert verdicts(tmp_path)["theory"]["verdict"] == "not reproduced"


def test_the_page_links_its_claims_and_two_runs_write_the_same(tmp_path: Path) -> None:
    write_study(tmp_path / "ppo", sweep(1, 1, 1, 1, 1, 90, adam=50))
    verdicts(tmp_path)
    page, data = (tmp_path / "CLAIMS.md").read_text(), (tmp_path / "claims.json").read_bytes()
    assert (
        "| [ppo](#ppo) | On-policy PPO: substantially better than Adam | **reproduced** |" in page
    )
    assert "\n## ppo\n" in page
    assert "- probability of improvement: 1 [1, 1]" in page
    assert "- Rests on: 35 of ppo." in page
    verdicts(tmp_path)
    assert (tmp_path / "CLAIMS.md").read_text() == page
    assert (tmp_path / "claims.json").read_bytes() == data


def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["result=x"]) == 2
    assert main([f"results={tmp_path / 'typo'}"]) == 2
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "torn.json").write_text("{")
    assert main([f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "torn.json" in error
    assert "typo: no such folder" in error
    assert error.count("\n") == 3
    assert not (tmp_path / "CLAIMS.md").exists()


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from scripts.claims import main; "
        f"assert main([{f'results={tmp_path}'!r}]) == 0; "
        "assert not {'torch', 'stable_baselines3', 'gymnasium', 'experiments'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=True)


def test_the_committed_results_are_judged(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for source in (*(ROOT / "results").glob("*/records"), ROOT / "results" / "theory"):
        shutil.copytree(source, results / source.relative_to(ROOT / "results"))
    assert main([f"results={results}"]) == 0
    for name in ("claims.json", "CLAIMS.md"):
        same = (results / name).read_text() == (ROOT / "results" / name).read_text()
        assert same, f"results/{name} is not that of the records: make report"


def test_a_gain_over_an_adam_that_learned_nothing_is_valid_json(tmp_path: Path) -> None:
    records = ppo_sweep(200.0)
    for record in records:
        if record["arm"] == "adam":
            record["final_score"] = record["curve"]["return_mean"][0]  # untrained
    write_records(tmp_path / "ppo", *records)
    assert main([f"results={tmp_path}"]) == 0
    assert "Infinity" not in (tmp_path / "claims.json").read_text()
