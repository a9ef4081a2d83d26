"""A Slurm cluster of two nodes, each one core, on this machine; it ends with this process.

Everything of it lies in one folder, and its ports are its own: a Slurm that is installed and at
work on this machine is not touched.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue")
PACKAGES = "slurm-wlm and munge"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MaxArraySize=10
KillWait=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[16831-16832] CPUs=1 RealMemory=4000
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] PriorityTier=10
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=path()) is None]


def path() -> str:
    """Where Debian has the daemons, even if a shell's PATH does not."""
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Bring the cluster up, make it this process's, and take it down."""
    (folder / "munge").mkdir(parents=True)
    (folder / "state").mkdir()
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    configuration.write_text(
        CONFIGURATION.format(folder=folder, host=host, user=getpass.getuser()).lstrip()
    )
    os.environ |= {"SLURM_CONF": str(configuration), "PATH": path()}
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")]
    daemons = [
        ["munged", "-F", "-f", f"-S{folder}/munge/socket", f"--key-file={key}", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    processes = []
    try:
        for number, daemon in enumerate(daemons):
            with (folder / f"{daemon[0]}-{number}.log").open("w") as log:
                # The daemons die with this process, however it ends.
                command = ["setpriv", "--pdeathsig", "KILL", *daemon]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for(lambda: (folder / "munge/socket").exists(), 20)
        wait_for(lambda: slurm("sinfo", "-h", "-o%D %t").strip() == "2 idle", 60)
        yield
    finally:
        slurm("scancel", "--me")
        wait_for(lambda: not slurm("squeue", "-h"), 20)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait()


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds} s")
        time.sleep(0.2)
