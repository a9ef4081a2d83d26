"""The configuration: what is refused, in which words, and what makes two runs the same run."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.config import TrainConfig, override
from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.validation import validate, validate_settings

CONFIGS = Path(__file__).parents[1] / "configs"
CARTPOLE = ["environment.id=CartPole-v1", "optimizer=adam"]


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(*overrides: str) -> TrainConfig:
    return validate(compose("train", list(overrides)))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.eps=-1", ["optimizer", "eps=-1", "Invalid epsilon value"]),
        ("optimizer.eps=small", ["optimizer.eps", "'small'", "valid number"]),
        ("optimizer.rho=1", ["optimizer.rho: no such setting; allowed: name, betas, eps"]),
        ("optimizer.esp=1", ["optimizer.esp: no such setting; did you mean optimizer.eps?"]),
        ("enviroment.id=x", ["enviroment: no such setting; did you mean environment?"]),
        ("+optimizer.epsilon=1", ["optimizer.epsilon", "Adam has no such argument"]),
        ("+optimizer.lr=1", ["optimizer.lr", "algorithm.learning_rate"]),
        (
            "optimizer=alphagrad optimizer.alpha=-1",
            ["optimizer.alpha = -1.0: ", "must be finite and > 0"],
        ),
        ("optimizer._target_=Such", ["optimizer._target_ = 'Such'", "with its module"]),
        ("optimizer._target_=no.Such", ["optimizer._target_", "no.Such"]),
        ("optimizer=adm", ["optimizer/adm", "adam", "alphagrad"]),
        ("algorithm.gamma=1.5", ["algorithm.gamma", "1.5", "less than or equal to 1"]),
        ("algorithm.batch_size=many", ["algorithm.batch_size", "'many'", "valid integer"]),
        ("algorithm.learning_rate=0", ["algorithm.learning_rate", "0", "greater than 0"]),
        ("+algorithm.batchsize=3", ["algorithm.batchsize", "did you mean algorithm.batch_size?"]),
        ("+environment.wrapper=1", ["environment.wrapper", "no such setting"]),
        (
            "algorithm.learning_rate_end=-1",
            ["algorithm.learning_rate_end", "-1", "greater than"],
        ),
        ("algorithm.learning_rate_end=low", ["algorithm.learning_rate_end", "'low'", "number"]),
        ("+optimizer.alpha_end=1", ["optimizer.alpha_end = 1: Adam has no alpha"]),
        (
            "algorithm.learning_rate={_target_:math.sqrt} algorithm.learning_rate_end=0",
            [
                "algorithm.learning_rate_end = 0: algorithm.learning_rate = {",
                "should be the number",
            ],
        ),
        ("environment.n_envs=0", ["environment.n_envs", "0", "greater than or equal to 1"]),
        ("environment.id=Acrobt-v1", ["environment.id", "did you mean Acrobot-v1"]),
        ("environment.id=Zzz", ["environment.id", "'Zzz'", "pprint_registry"]),
        ("+anything=1", ["anything", "no such setting"]),
        ("seed=one", ["seed", "'one'", "valid integer"]),
        ("seed=-1", ["seed", "-1", "greater than or equal to 0"]),
        ("total_steps=0", ["total_steps", "0", "greater than or equal to 1"]),
        ("device=tpu", ["device", "'tpu'", "auto, cpu, cuda"]),
        ("evaluation.points=-1", ["evaluation.points", "-1"]),
        ("total_steps=1.5", ["total_steps", "1.5", "valid integer"]),
        ("total_steps=true", ["total_steps", "True", "a number"]),
        ("algorithm.gamma=true", ["algorithm.gamma", "True", "a number"]),
        ("algorithm.learning_rate=1e309", ["algorithm.learning_rate", "inf", "finite"]),
        ("+algorithm.seed=3", ["algorithm.seed", "it is seed"]),
        ("environment.id=null", ["environment.id", "None", "valid string"]),
        ("optimizer._target_=math.sqrt", ["optimizer._target_", "subclass of Optimizer"]),
        (
            "algorithm._target_=torch.optim.Adam",
            ["algorithm._target_", "subclass of BaseAlgorithm"],
        ),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    override: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_, exit_on_mistake():
        composed(*CARTPOLE, *override.split())
    assert exit_.value.code == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    for word in words:
        assert word in output


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_an_optimizer_that_cannot_make_a_step_is_refused(name: str) -> None:
    overrides = [f"optimizer._target_=torch.optim.{name}", "~optimizer.eps"]
    overrides += ["~optimizer.betas", "~optimizer.weight_decay"]
    with pytest.raises(ConfigurationError, match=rf"optimizer \({name}"):
        composed(*CARTPOLE, *overrides)


@pytest.mark.parametrize("setting", ["optimizer.name", "algorithm.name", "protocol"])
@pytest.mark.parametrize(
    "name",
    [
        *["a/b", "..", "../x", "_a", "a_", "a$b", "<b>", "=1+1", "-a", "a b", "a,b", "a|b", "a`b"],
        *["a\x1b[2J", "a\udcff", "ä", "a\n", "nan", "null", "1", "", "a" * 81],
    ],
)
def test_a_name_is_a_name(setting: str, name: str) -> None:
    config = compose("train", CARTPOLE)
    OmegaConf.update(config, setting, name)
    with pytest.raises(ConfigurationError, match=f"{setting} = .*should be a name") as raised:
        validate(config)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["sign_sgd", "adam-lr2.5e-05", "alphagrad-alpha1e+300", "a"])
def test_what_our_own_names_are_like_is_accepted(name: str) -> None:
    assert composed(*CARTPOLE, f"optimizer.name={name}").optimizer["name"] == name


def test_a_whole_number_may_be_written_as_a_power_of_ten() -> None:
    dqn = ["protocol=dqn_cleanrl", "optimizer=adam"]
    config = composed(*dqn, "total_steps=5e5", "algorithm.buffer_size=1e4", "seed=1e0")
    assert (config.total_steps, config.algorithm["buffer_size"], config.seed) == (500000, 10000, 1)
    assert config.identity() == composed(*dqn, "seed=1").identity()


@pytest.mark.parametrize("setting", ["alpha", "alpha_end"])
@pytest.mark.parametrize("alpha", ["0", "-1", "nan", "inf", "large"])
def test_alpha_must_be_positive_and_finite(setting: str, alpha: str) -> None:
    overrides = [
        "environment.id=CartPole-v1",
        "optimizer=alphagrad",
        f"optimizer.{setting}={alpha}",
    ]
    with pytest.raises(ConfigurationError, match="alpha"):
        composed(*overrides)


def test_an_environment_has_to_be_named() -> None:
    with pytest.raises(ConfigurationError, match=r"environment\.id is not set"):
        composed("optimizer=adam")


@pytest.mark.parametrize("optimizer", [path.stem for path in (CONFIGS / "optimizer").iterdir()])
@pytest.mark.parametrize("protocol", [path.stem for path in (CONFIGS / "protocol").iterdir()])
def test_every_optimizer_composes_with_every_protocol(protocol: str, optimizer: str) -> None:
    config = composed(f"protocol={protocol}", f"optimizer={optimizer}")
    assert config.protocol == protocol
    assert config.optimizer["name"].startswith(optimizer)
    again = validate_settings(yaml.safe_load(yaml.safe_dump(asdict(config))))
    assert again == config
    assert again.identity() == config.identity()


@pytest.mark.parametrize(
    ("protocol", "optimizer", "eps", "max_grad_norm"),
    [
        ("dqn_cleanrl", "adam", 1e-5, None),
        ("td3_cleanrl", "adam", 1e-8, None),
        ("ppo_cleanrl", "adam", 1e-5, 0.5),
        ("dqn_cleanrl", "alphagrad", 1e-5, None),
        ("td3_cleanrl", "alphagrad", 1e-5, None),
        ("ppo_cleanrl", "alphagrad", 1e-5, None),
    ],
)
def test_what_the_author_sets_for_one_optimizer(
    protocol: str, optimizer: str, eps: float, max_grad_norm: float | None
) -> None:
    config = composed(f"protocol={protocol}", f"optimizer={optimizer}")
    assert config.optimizer["eps"] == eps
    assert config.algorithm.get("max_grad_norm") == max_grad_norm


RUN = ["protocol=ppo_cleanrl", "optimizer=alphagrad", "optimizer.alpha=10", "seed=3"]


@pytest.mark.parametrize(
    "overrides",
    [
        RUN[::-1],
        [*RUN[:2], "optimizer.alpha=10.0", "seed=3"],
        [*RUN, "optimizer.name=mine"],
        [*RUN, "runs=elsewhere"],
        [*RUN, "device=cpu"],
        [*RUN, "environment.reset_transitions=false", "evaluation.at_start=false"],
        [*RUN, "matmul_precision=highest"],
        [*RUN, "environment.contact_margins=new"],
        [*RUN, "algorithm.learning_rate_end=null", "optimizer.alpha_end=null"],
        [
            *["algorithm=ppo_cleanrl", "environment=normalized", "environment.id=HalfCheetah-v4"],
            *["optimizer=alphagrad", "optimizer.alpha=10", "seed=3", "total_steps=1000000"],
            "algorithm.max_grad_norm=null",
        ],
    ],
)
def test_the_same_run_however_it_is_written(overrides: list[str]) -> None:
    assert composed(*overrides).identity() == composed(*RUN).identity()


def test_the_identities_of_committed_runs_stay() -> None:
    records = Path(__file__).parents[1] / "results/records"
    assert len([*records.glob(f"*-{composed(*RUN).identity()}.json")]) == 1


@pytest.mark.parametrize(
    "override",
    [
        "seed=4",
        "optimizer.alpha=11",
        "optimizer.alpha_end=1",
        "algorithm.learning_rate_end=3e-4",
        "optimizer.momentum=0",
        "algorithm.learning_rate=1e-3",
        "algorithm.policy_kwargs.net_arch=[32]",
        "environment.id=HalfCheetah-v5",
        "environment.reset_transitions=true",
        "matmul_precision=high",
        "environment.contact_margins=old",
        "total_steps=999999",
        "evaluation.points=0",
        "evaluation.at_start=true",
    ],
)
def test_a_changed_setting_is_another_run(override: str) -> None:
    assert composed(*RUN, override).identity() != composed(*RUN).identity()


def test_an_environment_of_another_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "import gymnasium\ngymnasium.register('Mine-v0', 'a:B')\n"
    (tmp_path / "my_environments.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    assert composed("environment.id=my_environments:Mine-v0").environment.id.endswith("Mine-v0")
    with pytest.raises(ConfigurationError, match="no_such_module cannot be imported"):
        composed("environment.id=no_such_module:Mine-v0")


@pytest.mark.parametrize(
    "text",
    [
        *["runs", "/tmp/a b", "a'b\"c", "$x;{y}", "ü,=", "a\udcffb", "%x", "a\nb", "a\\", "\\'x"],
        *["${x}", "\\${x}", "[1]", "a#b", "null", "~/x", "{}()*?", "a\\\\'", ""],
    ],
)
def test_an_override_holds_any_text(text: str) -> None:
    assert compose("train", [*CARTPOLE, override("runs", text)]).runs == text
