"""The command line of the analysis: ``key=value`` arguments, and the studies that they name."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scripts.records import QUICK_SUFFIX


class Scale(Enum):
    """At which scale a study was run."""

    paper = "paper"
    quick = "quick"


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
        study: A study's name, or ``all``.
        scale: ``paper`` unless given; with ``study=all``, both.
    """

    study: str = "all"
    scale: Scale | None = None


class SettingsError(Exception):
    """A command line that cannot be used; the message is one line."""


Settings = TypeVar("Settings")


def parse(schema: type[Settings], arguments: list[str], usage: str) -> Settings:
    """Reads ``key=value`` arguments.

    Raises:
        SettingsError: If a key is unknown or a value is wrong.
    """
    try:
        settings = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli(arguments))
        return cast(Settings, OmegaConf.to_object(settings))
    except (OmegaConfBaseException, YAMLError) as error:
        raise SettingsError(f"{str(error).splitlines()[0]}; usage: {usage}") from error


def study_folders(settings: StudySettings) -> list[Path]:
    """The folders of the studies that the settings name.

    Raises:
        SettingsError: If ``study=all`` finds no records.
    """
    results = Path(settings.results)
    if settings.study != "all":
        quick = settings.scale is Scale.quick
        return [results / (settings.study + (QUICK_SUFFIX if quick else ""))]
    folders = {path.parent.parent for path in results.glob("*/records/*.json")}
    if settings.scale is not None:
        quick = settings.scale is Scale.quick
        folders = {folder for folder in folders if folder.name.endswith(QUICK_SUFFIX) == quick}
    if not folders:
        raise SettingsError(f"no study in {results} has records")
    return sorted(folders)
