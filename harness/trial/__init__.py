"""A change to a Hyper-V driver, tried: what it touches is rebuilt, guests with it and without are compared.

affected    which modules a patch changes, or that it takes a whole kernel
change      a patch, or the source of a module, and the kernels that it makes
outcome     what one guest showed: its checks, the rules of the wire, the drivers that crossed it
compare     before and after
run         one kernel, both ways
"""

from harness.trial.affected import Affected, affected
from harness.trial.change import Change
from harness.trial.compare import Comparison, compare
from harness.trial.outcome import Outcome
from harness.trial.run import Prepared, Trial, prepare, try_kernel

__all__ = [
    "Affected",
    "Change",
    "Comparison",
    "Outcome",
    "Prepared",
    "Trial",
    "affected",
    "compare",
    "prepare",
    "try_kernel",
]
