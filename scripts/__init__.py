"""The analysis: from records to statistics, tables, figures and reports."""

import sys

from experiments import interrupts

if sys.argv[:1] == ["-m"]:  # Python is looking for the module of this package that it is to run
    interrupts.install()
