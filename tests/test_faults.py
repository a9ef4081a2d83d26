"""The short form of ``make test-faults``."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_study_survives_kills_and_a_full_disk() -> None:
    faults = Path(__file__).with_name("faults.py")
    command = [sys.executable, str(faults), "--kills", "2", "--studies", "dqn"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "2 kills survived" in outcome.stdout
    assert "3 runs compared bit for bit, 0 differences" in outcome.stdout
