"""Hydra's ``-m`` by the launchers that a study has; hydra/launcher=local is the default.

Hydra finds this module by the name of its package. It imports what takes time when it is used.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Does the jobs of a sweep as processes of this machine.

    Args:
        workers: runs at a time; None leaves it to the launcher.
        settings: as in ``configs/launcher``.
    """

    TARGET: ClassVar[str] = "experiments.launch.local.Local"

    def __init__(self, workers: int | None = None, **settings: Any) -> None:
        self.workers = workers
        self.settings = settings | {"_target_": self.TARGET}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs."""
        self.config_name = str(config.hydra.job.config_name)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do the jobs, and return their scores; None makes a failed trial of a search.

        Whether each has a record is looked at when the sweep ends.
        """
        from experiments.launch import sweep

        runs = [sweep.composed_run(self.config_name, overrides) for overrides in job_overrides]
        sweep.launch(self.settings, self.workers, runs)
        scores = [sweep.score(run) for run in runs]
        return [JobReturn(_return_value=value, status=JobStatus.COMPLETED) for value in scores]


class SlurmLauncher(LocalLauncher):
    """Does the jobs of a sweep as tasks of a Slurm cluster."""

    TARGET = "experiments.launch.slurm.Slurm"
