import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import PACKAGES, cluster, missing_programs

os.environ["WANDB_MODE"] = "disabled"  # it adds a second to each run


@pytest.fixture(scope="session", autouse=True)
def slurm_folder() -> Iterator[Path]:
    """The folder of a cluster that is up; see `cluster`."""
    if missing := missing_programs():
        reason = f"no {', '.join(missing)} here: install Debian's {PACKAGES}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as temporary, cluster(Path(temporary, "slurm")):
        yield Path(temporary, "slurm")
