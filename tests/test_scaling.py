from scripts.benchmark.scaling import study_size


def test_a_studys_size_is_what_it_plans() -> None:
    assert study_size("dqn_resets") == (40, 500_000)
