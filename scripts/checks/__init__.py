"""The rules that a claim's checks name, and the parameters that each takes.

A check of a claim's file is one of these classes: ``rule`` picks it, and its attributes are the
other fields. Without a ``task``, a rule that looks at a single one is put to each of the study's.
Every rule answers for itself: it says what it needs and lacks, and is undecided until it has it. A
new rule is a class in one of these modules, and its name in `AnyRule`.
"""

from typing import Annotated

from pydantic import Field

from scripts.checks.comparisons import Better, Competitive, Stability, Substantial
from scripts.checks.convergence import Bound, BoundFactor
from scripts.checks.memory import LessMemory, Stateless
from scripts.checks.tuning import Critical, Interaction

AnyRule = Annotated[
    Better
    | Substantial
    | Competitive
    | Stability
    | Critical
    | Interaction
    | LessMemory
    | Stateless
    | Bound
    | BoundFactor,
    Field(discriminator="rule"),
]
