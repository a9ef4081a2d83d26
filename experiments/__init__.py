"""The benchmark: from a configuration to a record."""

import os

# These networks train fastest on one thread a process; torch reads this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
