"""Lets file operations fail now and then, in each Python that has this folder on its path.

Of what is opened, renamed, removed, made or brought to the disk below ``FAULTS_BELOW``, a share of
``FAULTS_SHARE`` fails with EIO or ENOSPC, and is counted by a letter in the file ``FAULTS_LOG``.
"""

import errno
import os
import random
import sys
from typing import Any

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.scandir", "os.listdir", "os.truncate"}
BELOW, SHARE = os.environ["FAULTS_BELOW"], float(os.environ["FAULTS_SHARE"])
LOG = os.open(os.environ["FAULTS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
GENERATOR = random.Random(f"{os.environ['FAULTS_SEED']} {os.getpid()}")
FSYNC = os.fsync


def fail_perhaps(path: object) -> None:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, str) and path.startswith(BELOW) and GENERATOR.random() < SHARE:
        number = GENERATOR.choice([errno.EIO, errno.ENOSPC])
        os.write(LOG, b".")
        raise OSError(number, os.strerror(number), path)


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS:
        fail_perhaps(arguments[0])


def fsync(file: Any) -> None:
    descriptor = file if isinstance(file, int) else file.fileno()
    fail_perhaps(os.readlink(f"/proc/self/fd/{descriptor}"))
    FSYNC(descriptor)


sys.addaudithook(audit)
os.fsync = fsync  # type: ignore[assignment]
