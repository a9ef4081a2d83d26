"""The dashboard: a saved workspace in Weights & Biases, or ``wandb leet`` on the local runs.

python -m experiments.views.dashboard [--runs runs] [--entity TEAM] [--project alphagrad]

With a key the workspace is saved, and its address printed. Without one nothing leaves the machine:
wandb's terminal interface opens on the runs that were logged offline.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

from experiments.mistakes import exit_on_mistake

STEP = "global_step"
SCORE = wr.SummaryMetric("final_score")
ARM = "config.arm"


def curve(title: str, metric: str) -> wr.LinePlot:
    """Draw a metric against environment steps: each arm's mean with its standard error."""
    return wr.LinePlot(
        title=title,
        x=STEP,
        y=[metric],
        groupby=ARM,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        aggregate=True,
        max_runs_to_show=100,
    )


def family(title: str, prefix: str) -> wr.LinePlot:
    """All metrics whose names begin with ``prefix``, against environment steps."""
    return wr.LinePlot(title=title, x=STEP, metric_regex=f"{prefix}.*", aggregate=True)


def workspace(entity: str, project: str) -> ws.Workspace:
    """Return the workspace: what the studies ask of their runs, arm by arm.

    Args:
        entity: wandb's user or team.
        project: the project that the runs are in.
    """
    coordinates = [
        wr.ParallelCoordinatesPlotColumn(wr.Config("alpha"), log=True),
        wr.ParallelCoordinatesPlotColumn(wr.Config("momentum")),
        wr.ParallelCoordinatesPlotColumn(wr.Config("learning_rate"), log=True),
        wr.ParallelCoordinatesPlotColumn(wr.Config("arm")),
        wr.ParallelCoordinatesPlotColumn(SCORE),
    ]
    sections: dict[str, list[Any]] = {
        "Returns": [
            curve("Training return, mean and standard error", "rollout/ep_rew_mean"),
            curve("Evaluation return, mean and standard error", "evaluation/return_mean"),
            wr.BarPlot(
                title="Final score, mean and standard deviation",
                metrics=["final_score"],
                groupby=ARM,
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                max_bars_to_show=100,
            ),
        ],
        "Alpha": [
            wr.ParallelCoordinatesPlot(title="Settings and final score", columns=coordinates),
            wr.ScatterPlot(title="Final score", x=wr.Config("alpha"), y=SCORE, log_x=True),
            wr.ParameterImportancePlot(with_respect_to="final_score"),
        ],
        "Stability": [
            curve("Value loss", "train/value_loss"),
            curve("Q loss", "train/loss"),
            curve("Critic loss", "train/critic_loss"),
            curve("KL divergence of an update", "train/approx_kl"),
            curve("Clipped share", "train/clip_fraction"),
            family("Gradient norms", "diagnostics/grad_norm/"),
        ],
        "Saturation": [
            family("Share of saturated elements", "diagnostics/saturated_share/"),
            family("Update size (root mean square)", "diagnostics/update_rms/"),
        ],
        "Videos": [wr.MediaBrowser(media_keys=["video"])],
        "System": [
            curve("Environment steps per second", "time/fps"),
            wr.LinePlot(title="CPU of the process (%)", x="_runtime", y=["system/cpu"]),
            wr.LinePlot(
                title="Memory of the process (MB)", x="_runtime", y=["system/proc.memory.rssMB"]
            ),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="AlphaGrad",
        sections=[
            ws.Section(name=name, panels=panels, is_open=name in ("Returns", "Alpha"))
            for name, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("group"), ws.Config("family"), ws.Config("arm")]
        ),
    )


def main(arguments: list[str]) -> int:
    """Save the workspace, or open the terminal interface."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.views.dashboard", description=__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the runs' folder")
    parser.add_argument("--entity", help="wandb's user or team; the key's own if not given")
    parser.add_argument("--project", default="alphagrad", help="wandb's project")
    options = parser.parse_args(arguments)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        if wandb.login(prompt=False):
            entity = options.entity or str(wandb.Api().default_entity)
            print(workspace(entity, options.project).save().url)
            return 0
    except Exception as error:  # the network's, the server's or the key's: one line says which
        print(f"the workspace could not be saved: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    folder = options.runs / "wandb"
    if not any(folder.glob("*run-*")):
        print(f"no tracked runs in {folder}: train one first", file=sys.stderr)
        return 1
    print(
        f"no wandb key here: showing the runs in {folder} in the terminal (q leaves).\n"
        "To see them in the browser: .venv/bin/wandb login, make wandb-sync, make dashboard",
        flush=True,
    )
    os.execv(sys.executable, [sys.executable, "-m", "wandb", "leet", "run", str(folder)])


if __name__ == "__main__":
    with exit_on_mistake():
        sys.exit(main(sys.argv[1:]))
