"""A study under fire: processes are killed, checkpoints damaged, files fail, a disk is full.

    python tests/faults.py --kills 20
    python tests/faults.py --kills 60 --damage 30 --errors 60 --seed 7

Runs small studies of all three algorithms twice, once undisturbed, and compares every record bit
for bit. Prints what happened; the exit code is 1 if anything was lost, doubled or different.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from experiments.runs.records import sealed  # noqa: E402

STUDIES = {
    "dqn": ["total_steps=9000", "algorithm.learning_starts=500"],
    "td3": ["total_steps=1200", "algorithm.learning_starts=500"],
    "ppo": ["total_steps=10240", "algorithm.n_epochs=1"],
}
COMMON = ["evaluation.points=2", "evaluation.episodes=1", "checkpoint.minutes=0.02"]


def command(study: str, folder: Path) -> list[str]:
    overrides = json.dumps([*STUDIES[study], *COMMON], separators=(",", ":"))
    return [
        *[sys.executable, "-m", "experiments.study", f"study={study}", "scale=quick"],
        *[f"overrides={overrides}", "retry=failed", "stage=tune"],
        *[f"results={folder}/results", f"runs={folder}/runs"],
    ]


def start(
    study: str, folder: Path, output: Any = subprocess.DEVNULL, **variables: str
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command(study, folder), cwd=ROOT, env=os.environ | variables, stdout=output, stderr=output
    )


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, check=False)
    return [int(child) for child in found.stdout.split()]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Every published record, less what may differ between two runs of one configuration."""
    found = {}
    for path in folder.glob("results/*/records/*.json"):
        record = json.loads(path.read_text())
        assert record == sealed(record), f"{path}: its digest is not that of its content"
        del record["timing"], record["provenance"], record["digest"]
        found[path.name] = record
    return found


def cut(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(1, path.stat().st_size))


def flip(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def empty(path: Path, generator: random.Random) -> None:
    os.truncate(path, 0)


def replace_by_a_folder(path: Path, generator: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (cut, flip, empty, replace_by_a_folder)


def damage(folder: Path, generator: random.Random) -> bool:
    """Damage the newest checkpoint of a run, now and then both; whether there was one."""
    paths = sorted(folder.glob("runs/*/checkpoints/step-*.pt"))
    whole = [path for path in paths if path.is_file() and path.stat().st_size]
    if not whole:
        return False
    run = generator.choice(whole).parent
    files = [path for path in whole if path.parent == run]
    for path in files[-1 if generator.random() < 0.7 else -2 :]:
        generator.choice(DAMAGES)(path, generator)
    return True


def wait_for_a_checkpoint(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait until a run has saved a checkpoint, or the study has ended."""

    def checkpoints() -> set[Path]:
        return set(folder.glob("runs/*/checkpoints/step-*.pt"))

    before = checkpoints()
    while process.poll() is None and checkpoints() <= before:
        time.sleep(0.01)


def disturb(
    seconds: dict[str, float], folder: Path, kills: int, damages: int, generator: random.Random
) -> tuple[list[tuple[str, Path]], int]:
    """Kill until ``kills`` have hit; a study that has ended all the same is begun anew.

    Args:
        seconds: how long each study lasts undisturbed.
        folder: of the studies' folders.
        kills: how many.
        damages: in how many runs checkpoints are to be damaged, after kills.
        generator: decides what is killed and damaged, and when.

    Returns:
        Each study with its folder, and in how many runs checkpoints were damaged.
    """
    current = {study: folder / f"{study}-0" for study in seconds}
    begun = list(current.items())
    killed = damaged = 0
    while killed < kills or damaged < damages:
        study = generator.choice(sorted(seconds))
        process = start(study, current[study])
        if generator.random() < 0.5:
            time.sleep(generator.uniform(0.2, 0.9) * seconds[study])
        else:
            wait_for_a_checkpoint(process, current[study])
        if process.poll() is not None:
            current[study] = folder / f"{study}-{len(begun)}"
            begun.append((study, current[study]))
            continue
        workers = children(process.pid)
        victim = generator.choice([process.pid, *workers])
        os.kill(victim, signal.SIGKILL)
        killed += 1
        print(".", end="", flush=True)
        if generator.random() < 0.5:  # the others live on, and the next study meets their locks
            for worker in workers:
                if Path(f"/proc/{worker}").exists():
                    os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()
        if damaged < damages:
            damaged += damage(current[study], generator)
    return begun, damaged


def let_files_fail(study: str, folder: Path, errors: int, seed: int) -> list[str]:
    """Go on with a study, begun anew when it has ended, until so many file operations have failed.

    Returns:
        What went wrong.
    """
    folder.mkdir()
    log, output = folder / "failed.txt", folder / "output.txt"
    log.touch()
    wrong, begun = [], [folder / "0"]
    support = ROOT / "tests/support/failing_files"
    while (failed := log.stat().st_size) < errors:
        variables = {"FAULTS_LOG": str(log), "FAULTS_SEED": str(seed + failed)}
        variables |= {"FAULTS_BELOW": str(begun[-1]), "FAULTS_SHARE": "0.02"}
        with output.open("wb") as file:
            process = start(study, begun[-1], file, PYTHONPATH=str(support), **variables)
        code, said = process.wait(), output.read_text()
        if code not in (0, 1, 2) or "Traceback" in said:
            wrong.append(f"{begun[-1]}, files failed: exit code {code}: {said[-2000:]}")
        if code == 0:
            begun.append(folder / str(len(begun)))
    print(f"{study}: {failed} file operations failed in {len(begun)} studies", flush=True)
    for path in begun:
        start(study, path).wait()
        wrong += compare(records(path), f"{study}-{path.name}, after files failed", only=study)
    return wrong


def fill_a_disk(disk: Path) -> list[str]:
    """A study on a disk that is too small ends with one clear line, and goes on when there is room.

    Returns:
        What went wrong.
    """
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        print("disk: left out, this needs root and the right to mount a tmpfs")
        return []
    try:
        small = subprocess.run(
            command("dqn", disk), cwd=ROOT, capture_output=True, text=True, check=False
        )
        wrong = []
        if small.returncode != 1 or "No space left" not in small.stderr:
            wrong.append(f"a full disk gave exit code {small.returncode}: {small.stderr[-300:]}")
        if "Traceback" in small.stderr:
            wrong.append(f"a full disk gave a traceback: {small.stderr[-300:]}")
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        subprocess.run(command("dqn", disk), cwd=ROOT, capture_output=True, check=False)
        return wrong + compare(records(disk), "after a full disk", only="dqn")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


UNDISTURBED: dict[str, dict[str, Any]] = {}


def compare(found: dict[str, dict[str, Any]], when: str, only: str = "") -> list[str]:
    """What differs from the undisturbed records, in lines."""
    expected = {
        name: record
        for name, record in UNDISTURBED.items()
        if record["configuration"]["protocol"].startswith(only)
    }
    wrong = [f"{when}: {name} is missing" for name in expected.keys() - found.keys()]
    wrong += [f"{when}: {name} is one too many" for name in found.keys() - expected.keys()]
    wrong += [
        f"{when}: {name} differs"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    return wrong


def main() -> int:
    """Run the test; the exit code is 1 if something was lost, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--damage", type=int, default=5, help="in how many runs, checkpoints")
    parser.add_argument("--errors", type=int, default=0, help="file operations that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        calm, stormy = Path(temporary, "calm"), Path(temporary, "stormy")
        seconds = {}
        for study in options.studies:
            began = time.monotonic()
            start(study, calm).wait()
            seconds[study] = time.monotonic() - began
        UNDISTURBED.update(records(calm))
        print(f"undisturbed: {len(UNDISTURBED)} runs", flush=True)

        generator = random.Random(options.seed)
        begun, damaged = disturb(seconds, stormy, options.kills, options.damage, generator)
        wrong = []
        for study, folder in begun:
            start(study, folder).wait()
            wrong += compare(records(folder), f"{folder.name}, after kills", only=study)
        resumed = [
            len(json.loads(path.read_text())["provenance"]["resumed"])
            for path in stormy.glob("*/runs/*/record.json")
        ]
        outputs = "".join(path.read_text() for path in stormy.glob("*/runs/*/output.txt"))
        print(
            f"\ndisturbed: {options.kills} kills survived, {sum(resumed)} resumptions, checkpoints "
            f"damaged in {damaged} runs, {outputs.count('passed over')} passed over",
            flush=True,
        )
        for study in options.studies if options.errors else ():
            share = options.errors // len(options.studies)
            wrong += let_files_fail(study, Path(temporary, study), share, options.seed)
        if "dqn" in options.studies:
            wrong += fill_a_disk(Path(temporary, "disk"))
    expected = 3 * len(options.studies)
    if len(UNDISTURBED) != expected:
        wrong.append(f"{len(UNDISTURBED)} undisturbed records instead of {expected}")
    print(*wrong, sep="\n")
    print(f"{len(UNDISTURBED)} runs compared bit for bit, {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
