"""The benchmark: from a configuration to a record."""

import os
import sys

from experiments import interrupts

# These networks train fastest on one thread a process; torch reads this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if sys.argv[:1] == ["-m"]:  # Python is looking for the module of this package that it is to run
    interrupts.install()
