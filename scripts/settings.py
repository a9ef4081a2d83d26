"""The command line of the analysis: ``key=value`` arguments, and the studies that they name."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from scripts.studies import MANIFEST, Scale, Study, load_study, study_names


class SettingsError(Exception):
    """A command line that cannot be used; the message is one line."""


def study_name(given: str) -> str:
    """Return a study's name as it is given, or that of the file in which a user has written it.

    Raises:
        SettingsError: If there is no such file.
    """
    path = Path(given)
    if path.suffix not in (".yaml", ".yml"):
        return given
    if not path.exists():
        raise SettingsError(f"study={given}: there is no such file")
    return path.stem


@dataclass
class ResultsSettings:
    """Where the records are.

    Attributes:
        results: The folder that holds the studies' folders.
    """

    results: str = "results"


@dataclass
class StudySettings(ResultsSettings):
    """Which studies to work on.

    Attributes:
        study: A study's name, the file in which a user has written it, or ``all``.
        scale: ``paper`` unless given; with ``study=all``, both.
    """

    study: str = "all"
    scale: Scale | None = None

    def __post_init__(self) -> None:
        self.study = study_name(self.study)


Settings = TypeVar("Settings")


def parse(schema: type[Settings], arguments: list[str], usage: str) -> Settings:
    """Read ``key=value`` arguments; print the usage and exit if they ask for help.

    Raises:
        SettingsError: If a key is unknown or a value is wrong.
    """
    if {"-h", "--help"} & set(arguments):
        print(f"usage: {usage}")
        sys.exit(0)
    try:
        settings = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli(arguments))
        return cast(Settings, OmegaConf.to_object(settings))
    except (OmegaConfBaseException, YAMLError) as error:
        raise SettingsError(f"{str(error).splitlines()[0]}; usage: {usage}") from error


File = TypeVar("File", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, unchecked.

    Raises:
        SettingsError: If it cannot be read.
    """
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from error


def load_yaml(path: Path, schema: type[File]) -> File:
    """Return what a YAML file says.

    Raises:
        SettingsError: If it cannot be read or has a mistake.
    """
    try:
        return schema.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path}: {field and field + ': '}{first['msg']}") from error


def load_studies(settings: StudySettings) -> list[Study]:
    """Return the studies that the settings name, by scale and by name.

    Raises:
        SettingsError: If ``study=all`` finds no records, or a study is there at quick scale only.
        RecordError: If a study's records cannot be used.
    """
    results, name = Path(settings.results), settings.study
    if name != "all":
        there = [scale for scale in Scale if (scale.folder(results) / name / MANIFEST).exists()]
        if settings.scale is None and there == [Scale.quick]:
            raise SettingsError(f"study={name}: {results} has it at quick scale only: scale=quick")
        return [load_study(results, name, settings.scale or Scale.paper)]
    scales = Scale if settings.scale is None else [settings.scale]
    studies = [
        load_study(results, name, scale) for scale in scales for name in study_names(results, scale)
    ]
    if not studies:
        raise SettingsError(f"no study in {results} has records")
    return studies
