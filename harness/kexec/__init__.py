"""One kernel starts the next, whatever their page sizes: kexec, and the crash dump of a kernel that panicked.

A `Stage` is a kernel with what it is started with; `run_chain` boots the first and has each start the next;
`run_crash` has the first panic, and brings its memory to the host as the kernel that it started saw it.
May import `harness.matrix` and what is below it.
"""

from harness.kexec.chain import run_chain
from harness.kexec.crash import CrashDump, run_crash
from harness.kexec.stage import Stage

__all__ = ["CrashDump", "Stage", "run_chain", "run_crash"]
