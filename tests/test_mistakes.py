"""Mistakes that Hydra finds, each told in one line that names the setting or the file."""

import argparse
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support.runs import start_module

from experiments.mistakes import ConfigurationError, exit_on_mistake, masked, mistake
from experiments.validation import plain

GROUPS = {
    "main.yaml": b"defaults: [_self_, {tea: green}]\nminutes: ???\nsugar: {lumps: 1}",
    "tea/green.yaml": b"degrees: 80",
}


def read(folder: Path, overrides: str) -> None:
    with exit_on_mistake(), initialize_config_dir(str(folder), version_base="1.3"):
        OmegaConf.to_container(
            compose("main", overrides.split()), resolve=True, throw_on_missing=True
        )


@pytest.mark.parametrize(
    ("broken", "overrides", "words"),
    [
        (b"degrees: 80\n\tcups: 1", "tea=broken", "broken.yaml"),
        (b"degrees: [80", "tea=broken", "broken.yaml"),
        (b"degrees: 80\ndegrees: 90", "tea=broken", "broken.yaml"),
        (b"degrees: 80\x00", "tea=broken", "broken.yaml"),
        ("name: thé".encode("latin-1"), "tea=broken", "broken.yaml: 'utf-8' codec"),
        (b"", "tea=3", "tea=3: Config group override must be a string"),
        (b"", "tea=null", "tea=null: Config group override"),
        (b"", "tea=black", "tea/black"),
        (b"", "tea.degrees=${warm} minutes=1", "tea.degrees: Interpolation key 'warm' not found"),
        (b"", "sugar=[1]", "sugar"),
        (b"", "sugar=[lumps=3]", "sugar=[lumps=3]: no viable alternative at input"),
        (b"", "sugar.milk=1", "sugar.milk: no such setting; allowed: lumps"),
        (b"", "tea=green", "minutes"),
    ],
)
def test_what_hydra_refuses_is_one_line_with_the_setting_or_the_file(
    broken: bytes, overrides: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tea").mkdir()
    for name, content in (GROUPS | {"tea/broken.yaml": broken}).items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as exit_:
        read(tmp_path, overrides)
    assert exit_.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert words in errors
    assert errors.count("\n") == 1


def test_an_error_that_is_not_hydras_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"), exit_on_mistake():
        int("tea")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--no-such"], "--no-such"), (["--lumps", "many"], "--lumps: invalid int value: 'many'")],
)
def test_what_argparse_refuses_is_one_line_too(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lumps", type=int)
    with pytest.raises(SystemExit) as exit_, exit_on_mistake():
        parser.parse_args(arguments)
    output, errors = capsys.readouterr()
    assert (exit_.value.code, output, errors.count("\n")) == (2, "", 1)
    assert words in errors


def test_a_missing_setting_is_told_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError) as refused:
        plain(OmegaConf.create({"environment": {"id": "???"}}))
    assert mistake(refused.value) == "environment.id is not set: it has no default"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"refused: key={'0a' * 20}!", "refused: key=***!"),
        ("no hunter22hunter", "no ***"),
        ("test_what_argparse_refuses_is_one_line_too", None),
        ("runs/ppo-HalfCheetah-v4-alphagrad-seed0-0123456789ab", None),
    ],
)
def test_keys_are_masked_and_names_are_not(
    text: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter22hunter")
    assert masked(text) == (shown or text)


def test_a_program_whose_output_nobody_reads_ends_quietly() -> None:
    process = start_module("experiments.runs.status", "--help")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait()
