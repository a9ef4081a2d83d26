from scripts.benchmark.scaling import study_size


def test_a_studys_size_is_what_it_plans() -> None:
    assert study_size("dqn_dropped") == (49, 500_000)
