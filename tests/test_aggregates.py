from pathlib import Path

import pytest
from support.records import make_record, write_study

from scripts.aggregates import aggregates
from scripts.scores import MEASURES, Measure
from scripts.studies import Stage, load_study

FIRST = {Stage.tune: 0, Stage.confirm: 100}


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
@pytest.mark.parametrize("stage", Stage)
def test_tasks_are_put_together_by_normalised_scores(
    tmp_path: Path, stage: Stage, measure: Measure
) -> None:
    records = [
        make_record(
            *(family, value, FIRST[stage] + seed),
            returns=[low, low + gain * scale],
            environment=task,
            stage=str(stage),
        )
        for task, low, scale in (("A", 0.0, 10.0), ("B", -500.0, 1000.0))
        for family, value, gain in (("adam", 3e-4, 1.0), ("alphagrad", 3.0, 0.5))
        for seed in range(6)
    ]
    write_study(tmp_path, "s", *records)
    found = {each.name: each for each in aggregates(load_study(tmp_path, "s"), measure, stage)}
    assert [*found] == ["Adam, default", "Adam", "AlphaGrad"]
    ours, adam = found["AlphaGrad"], found["Adam, default"]
    assert [arm.task.name for arm in ours.arms] == ["A", "B"]
    for aggregate, expected in ((ours, [0.5, 0.5, 0]), (adam, [1, 0, 0.5])):
        estimates = (aggregate.iqm, aggregate.optimality_gap, aggregate.improvement)
        assert [float(estimate.value) for estimate in estimates] == expected


def test_a_task_on_which_the_baseline_learned_nothing_has_no_scale(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *(make_record(seed=seed, returns=[5, 5]) for seed in range(3)))
    assert aggregates(load_study(tmp_path, "s"), stage=Stage.tune) == []
