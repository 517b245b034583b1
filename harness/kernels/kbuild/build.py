"""Runs the kernel's own build system on a tree that it never writes to (O=).

Sources: Linux Documentation/kbuild/kbuild.rst (variables), Documentation/kbuild/reproducible-builds.rst,
scripts/kconfig/conf.c (KCONFIG_ALLCONFIG).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.toolchain import Toolchain
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.configs import Base, Fragment, dropped_from, replaced_by
from harness.kernels.longrun import NO_LIMITS, Limits, Progress, Ran, run_lines
from harness.linux.kconfig import MAX_CONFIG_BYTES, Missing, missing_from, option_of, read_config

__all__ = [
    "BUILD_LOG",
    "Build",
    "BuildFailed",
    "Fragment",
    "check_tree",
    "jobs_for",
    "jobs_here",
    "knows_option",
    "step_of",
]

_STEP = re.compile(r"  ([A-Z][A-Z0-9_]+(?: \[M\])?) +(\S.*)")
_COMPILER_ERROR = re.compile(
    r"\S+?:\d+(?::\d+)?: (?:fatal )?error: .*|.*: undefined reference to .*|ERROR: modpost: .*"
    r"|.*: No space left on device.*"
)
_MAKE_ERROR = re.compile(r"make(?:\[\d+\])?: \*\*\* .*")
_MAX_ERRORS = 5
_JOB_BYTES = 1 << 30
_ALLCONFIG = "granule.allconfig"
_STEPS = "granule.steps"
BUILD_LOG = "granule-build.log"
"""In the output directory: all that the last make printed."""

# What would change the result, or where it goes, behind our back.
_FOREIGN_VARIABLES = (
    "KBUILD_OUTPUT",
    "KBUILD_EXTMOD",
    "KCONFIG_CONFIG",
    "KCFLAGS",
    "KAFLAGS",
    "KCPPFLAGS",
    "LOCALVERSION",
    "LLVM",
    "MAKEFLAGS",
    "MFLAGS",
)


class BuildFailed(InfraError):
    """make failed. `log` is all that it printed, for who wants to know each object that failed."""

    def __init__(
        self, message: str, *, source: Path, output: Path, log: Path, errors: tuple[str, ...]
    ) -> None:
        super().__init__(message)
        self.source = source
        self.output = output
        self.log = log
        self.errors = errors
        """The first compiler, linker or modpost errors, as printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build: tree, output directory and tools. Nothing happens before a method is called."""

    source: Path
    output: Path
    """Kept between builds, which makes the next one incremental."""
    toolchain: Toolchain
    ccache_dir: Path
    jobs: int
    expected_steps: int
    """Lines a first build prints; replaced by the count of the last build made here."""
    progress: Progress
    grouped: bool = False
    """What one target prints stays together, so that the log says which object a warning is of."""
    limits: Limits = NO_LIMITS
    """Of each run of make."""

    @property
    def log(self) -> Path:
        """All that make printed, last build only."""
        return self.output / BUILD_LOG

    @property
    def has_modules(self) -> bool:
        """True once configured with CONFIG_MODULES, without which kbuild refuses to build or install any."""
        return read_config(self.output / ".config").enabled("MODULES")

    def configure(self, fragments: Sequence[Fragment], base: Base | None = None) -> tuple[Missing, ...]:
        """The fragments over allnoconfig or `base`; returns the options of a base file that were dropped.

        Raises UsageError naming each option of a fragment that did not survive.
        """
        _refuse_odd_path(self.output)
        self.log.write_bytes(b"")
        together = "\n".join(f"# {fragment.name}\n{fragment.text}" for fragment in fragments)
        self.progress(0, None, "configuring")
        if base is None:
            (self.output / _ALLCONFIG).write_text(together, encoding="utf-8")
            self._make("allnoconfig", steps=None)
        else:
            self._configure_over(base, fragments, together)
        config = read_config(self.output / ".config")
        lost = [
            f"{missing} (asked for by {fragment.name})"
            for fragment in fragments
            for missing in missing_from(fragment.options, config)
        ]
        if lost:
            raise UsageError(
                f"{len(lost)} of the options asked for did not survive into .config of {self.source.name}: "
                f"{'; '.join(lost)}. Each depends on something that is off, or this kernel does not know it: "
                f"compare with {self.output / '.config'}."
            )
        return () if base is None else dropped_from(base, fragments, config)

    def _configure_over(self, base: Base, fragments: Sequence[Fragment], together: str) -> None:
        """What scripts/kconfig/merge_config.sh does: each option once, the fragments' last."""
        (self.output / _ALLCONFIG).unlink(missing_ok=True)
        text = base.text
        if text is None:
            self._make(base.name, steps=None)
            text = (self.output / ".config").read_text(encoding="utf-8")
        kept = [
            line
            for line in text.splitlines()
            if (option := option_of(line)) is None or not replaced_by(fragments, option)
        ]
        (self.output / ".config").write_text("\n".join([*kept, together, ""]), encoding="utf-8")
        self._make("olddefconfig", steps=None)

    def compile(self, *, keep_going: bool = False) -> None:
        """`make Image`, and `modules` if there are any.

        `keep_going`: compile all that can be, so that the log has every object that fails. Raises BuildFailed
        with the first compiler errors and the log's place.
        """
        steps = self.output / _STEPS
        first = not (self.output / "vmlinux").exists()
        total = _stored_steps(steps) or self.expected_steps or None
        targets = ("Image", "modules") if self.has_modules else ("Image",)
        options = (*(("-k",) if keep_going else ()), *(("-Otarget",) if self.grouped else ()))
        counted = self._make(*targets, steps=total if first else None, options=options)
        if first and counted > (total or 0) // 2:  # less is what an interrupted build left to do
            steps.write_text(f"{counted}\n", encoding="utf-8")

    def install_modules(self, into: Path) -> None:
        """Stripped modules into `into`/lib/modules/RELEASE, without the links back to tree and output."""
        self._make(
            "modules_install", f"INSTALL_MOD_PATH={into}", "INSTALL_MOD_STRIP=1", "DEPMOD=true", steps=None
        )
        for link in (*into.glob("lib/modules/*/build"), *into.glob("lib/modules/*/source")):
            link.unlink()

    def run(self, words: Sequence[str], on_line: Callable[[str], bool]) -> Ran:
        """Run make with targets, flags or variables, its lines given to `on_line`; whoever calls judges."""
        return run_lines(
            self._argv(words),
            on_line,
            package="make",
            env=self._environment(),
            log=self.log,
            limits=self.limits,
        )

    def _make(self, *targets: str, steps: int | None, options: tuple[str, ...] = ()) -> int:
        done = 0
        errors: list[str] = []

        def on_line(line: str) -> bool:
            nonlocal done
            step = step_of(line)
            if step is not None:
                done += 1
                self.progress(done, None if steps is None else max(steps, done), step)
                return True
            if _COMPILER_ERROR.fullmatch(line) and len(errors) < _MAX_ERRORS:
                errors.append(line)
            return False

        ran = self.run((*options, *targets), on_line)
        if ran.status != 0:
            if ran.ended:
                errors.insert(0, ran.ended)
            made = errors or [line for line in ran.tail if _MAKE_ERROR.fullmatch(line)] or list(ran.tail[-3:])
            raise BuildFailed(
                f"make {targets[0]} of {self.source} failed with status {ran.status}: "
                f"{'; '.join(made[:_MAX_ERRORS]) or 'it printed nothing'}. The whole log is {self.log}.",
                source=self.source,
                output=self.output,
                log=self.log,
                errors=tuple(errors),
            )
        return done

    def _argv(self, targets: Sequence[str]) -> list[str]:
        compiler = " ".join(self.toolchain.cc)
        ccache = f"{self.toolchain.ccache} " if self.toolchain.ccache else ""
        return [
            "make",
            "-C",
            str(self.source),
            f"O={self.output}",
            "ARCH=arm64",
            f"CROSS_COMPILE={self.toolchain.prefix}",
            f"CC={ccache}{compiler}",
            f"-j{self.jobs}",
            *targets,
        ]

    def _environment(self) -> dict[str, str | None]:
        """Fixed names and times, so that equal inputs give an equal Image (reproducible-builds.rst)."""
        allconfig = self.output / _ALLCONFIG
        return {
            **dict.fromkeys(_FOREIGN_VARIABLES),
            "KCONFIG_ALLCONFIG": str(allconfig) if allconfig.exists() else None,
            "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
            "KBUILD_BUILD_USER": "granule",
            "KBUILD_BUILD_HOST": "granule",
            "KBUILD_BUILD_VERSION": "1",
            "CCACHE_DIR": str(self.ccache_dir),
            "CCACHE_MAXSIZE": "4G",
            "PYTHONDONTWRITEBYTECODE": "1",  # kbuild runs Python programs that lie in the tree
        }


def step_of(line: str) -> str | None:
    """What a line such as `  CC [M]  fs/xfs/xfs.o` says is being made, cut to 200 characters; else None."""
    step = _STEP.fullmatch(line)
    return None if step is None else f"{step[1]} {step[2]}"[:200]


def check_tree(tree: Path, *, name: str = "") -> None:
    """Raise UsageError where `tree` is no kernel source for arm64, or kbuild would refuse it for O=.

    `name`: what to call it, where that is not its path. Source: the top Makefile's `outputmakefile`, which
    tests these three paths.
    """
    name = name or str(tree)
    if not (tree / "Kconfig").is_file() or not (tree / "arch").is_dir():
        raise UsageError(f"{name} is not a Linux source tree: it has no Kconfig or no arch/")
    if not (tree / "arch/arm64/Makefile").is_file():
        raise UsageError(f"{name} is a Linux source tree without arm64: it has no arch/arm64/Makefile")
    for made in (".config", "include/config", "arch/arm64/include/generated"):
        if (tree / made).exists():
            raise UsageError(
                f"{name} has been built in place ({made} exists), and kbuild then refuses to build "
                f"elsewhere. Run `make -C {tree} ARCH=arm64 mrproper` (it deletes .config), or give a clean "
                "tree, say from `git worktree add`."
            )
    _refuse_odd_path(tree)


def knows_option(tree: Path, option: str) -> bool:
    """True where arch/arm64/Kconfig of the tree defines that option."""
    try:
        with (tree / "arch/arm64/Kconfig").open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return re.search(rf"^\s*(?:menu)?config\s+{re.escape(option)}\s*$", text, re.MULTILINE) is not None


def jobs_for(cpus: int, memory_bytes: int) -> int:
    """How many compilers to run: one per CPU, and 1 GiB of memory for each."""
    return max(1, min(cpus, memory_bytes // _JOB_BYTES))


def jobs_here() -> int:
    """`jobs_for` this machine."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return jobs_for(len(os.sched_getaffinity(0)), memory_bytes)


def _refuse_odd_path(path: Path) -> None:
    """The top Makefile stops for a path with spaces or colons: "source directory cannot contain"."""
    if re.search(r"[\s:]", str(path)):
        raise UsageError(f"kbuild cannot work in a path with spaces or colons: {path}")


def _stored_steps(path: Path) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
