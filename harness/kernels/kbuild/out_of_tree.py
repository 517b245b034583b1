"""Builds modules out of tree, against what `headers_tree` put together, and puts them into a kernel's place.

Source: Linux Documentation/kbuild/modules.rst.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.build.toolchain import Toolchain
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.build import jobs_here
from harness.kernels.kbuild.vermagic import modules_release
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet, run_lines

__all__ = ["apply_patch", "build_modules", "with_modules"]

_STEP: Final = re.compile(r"  ([A-Z][A-Z0-9_]+(?: \[M\])?) +(\S.*)")
_ERROR: Final = re.compile(r"\S+?:\d+(?::\d+)?: (?:fatal )?error: .*|ERROR: modpost: .*")
_ALIGNMENT: Final = "-fmin-function-alignment=8"
"""GCC 14's; Debian's configuration says that the compiler has it."""
# Without that alignment ftrace's patch sites can be where the kernel does not expect them, and loading the
# module ends in BUG() (Linux arch/arm64/kernel/ftrace.c, "Misaligned patch-site"): have none.
_WITHOUT_ALIGNMENT: Final = ("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CC_FLAGS_FTRACE=")


def apply_patch(directory: Path, patch: Path) -> None:
    """`patch -p1`, all of it or nothing; raises UsageError with what patch said."""
    argv = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "-d", str(directory), "-i", str(patch)]
    for tried in ([*argv, "--dry-run"], argv):
        ran = run_lines(tried, lambda _line: False, package="patch")
        if ran.status != 0:
            raise UsageError(f"{patch.name} does not apply to this source: {'; '.join(ran.tail[-3:])}")


def build_modules(
    tree: Path, directory: Path, release: str, toolchain: Toolchain, *, ccache_dir: Path,
    includes: Iterable[str] = (), progress: Progress = quiet,
) -> tuple[Path, ...]:  # fmt: skip
    """Build the modules of `directory`, which has a Kbuild, and return the .ko files.

    Arguments: `tree`, from `headers_tree`; `release`, the kernel's; `includes`, directories of headers that
    come before the kernel's own. Raises InfraError with the compiler's first errors.
    """
    compiler = " ".join(toolchain.cc)
    argv = [
        "make", "-C", str(tree), f"M={directory}", "ARCH=arm64", f"CROSS_COMPILE={toolchain.prefix}",
        f"CC={f'{toolchain.ccache} ' if toolchain.ccache else ''}{compiler}", f"KERNELRELEASE={release}",
        f"NOSTDINC_FLAGS={' '.join(f'-I{directory / name}' for name in includes)}", f"-j{jobs_here()}",
        *(() if _accepts(toolchain, _ALIGNMENT) else _WITHOUT_ALIGNMENT),
        "modules",
    ]  # fmt: skip
    errors: list[str] = []

    def on_line(line: str) -> bool:
        step = _STEP.fullmatch(line)
        if step is not None:
            progress(0, None, f"{step[1]} {Path(step[2]).name}")
        elif _ERROR.fullmatch(line):
            errors.append(line)
        return step is not None

    environment: dict[str, str | None] = {
        "CCACHE_DIR": str(ccache_dir), "MAKEFLAGS": None, "KBUILD_OUTPUT": None, "LLVM": None,
        "KCFLAGS": None, "KBUILD_EXTMOD": None,
    }  # fmt: skip
    ran = run_lines(argv, on_line, package="make", env=environment)
    if ran.status != 0:
        said = "; ".join(errors[:5]) or ran.said
        raise InfraError(f"modules for {release} could not be built: {said}")
    made = tuple(sorted(directory.rglob("*.ko")))
    built_for = modules_release(directory)
    if not made or built_for != release:
        raise InfraError(f"{len(made)} modules were built, for {built_for}, where {release} runs")
    return made


def _accepts(toolchain: Toolchain, flag: str) -> bool:
    ran = subprocess.run(
        [*toolchain.cc, flag, "-E", "-x", "c", "/dev/null"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    return ran.returncode == 0


def with_modules(kernel: Kernel, made: Iterable[Path], directory: Path) -> Kernel:
    """The kernel with these modules in place of its own, its modules laid out anew below `directory`.

    As depmod does by default, updates/ comes before kernel/. Raises UsageError where the kernel has none.
    """
    if kernel.modules is None:
        raise UsageError(f"{kernel.name} has no modules that could be replaced")
    home = directory / kernel.release
    for path in kernel.modules.rglob("*"):
        if path.is_file():
            link = home / path.relative_to(kernel.modules)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    updates = home / "updates"
    updates.mkdir(parents=True)
    for module in made:
        (updates / module.name).symlink_to(module.resolve())
    return replace(kernel, modules=home)
