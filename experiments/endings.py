"""How a program ends that an interruption or the system ends: with one line, and no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from experiments.interrupts import EXIT_CODE, Interrupted, interruptible


def one_line(text: object) -> str:
    """Return a text as one line that a terminal shows as it is, whatever an environment says."""
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def leave(code: int, line: str) -> NoReturn:
    """End this program with an exit code and a line on stderr."""
    print(line, file=sys.stderr, flush=True)
    sys.exit(code)


@contextmanager
def one_line_endings() -> Iterator[None]:
    """Tell an interruption (exit code 130) and what the system refuses (1) in one line.

    The latter is a full disk, say; if it is that nobody reads on, as behind ``| head``, without a
    word.
    """
    for stream in (sys.stdout, sys.stderr):  # a path may hold what is not UTF-8
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible(), _flushed_output():
            yield
    except Interrupted as interruption:
        leave(EXIT_CODE, "; ".join(["interrupted", *getattr(interruption, "__notes__", ())]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        sys.exit(1)
    except OSError as error:
        leave(1, one_line(error))


@contextmanager
def _flushed_output() -> Iterator[None]:
    try:
        yield
    finally:
        sys.stdout.flush()
