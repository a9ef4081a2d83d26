"""What wandb has logged offline, by its own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def records_of(path: Path) -> list[dict[str, Any]]:
    """A ``.wandb`` file's records, by wandb's own reader."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    lines = subprocess.run(reader, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def wandb_files(folder: Path) -> list[Path]:
    """The runs' ``.wandb`` files, oldest first."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name)
