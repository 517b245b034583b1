"""A kernel of each step of a series, built where the last step's build left off.

Tree and output directories are the ones of `harness.kernels.trees.scratch` and `harness.kernels.kbuild`:
a copy in the cache that only the changed files are written to. The tree of the user's is read and
nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.build import BUILD_LOG, BuildFailed, knows_option
from harness.kernels.kbuild.configs import Configuration
from harness.kernels.kbuild.making import Made, Maker, Order, build_name
from harness.kernels.longrun import Limits, Progress
from harness.kernels.record import sha256_of
from harness.kernels.trees.origin import SourceTree
from harness.kernels.trees.patches import Patch, series_digest
from harness.kernels.trees.scratch import patched
from harness.series.logs import Ledger, first_place, short_path
from harness.series.values import Built, Outlook
from harness.spec import PageSize

__all__ = ["LIMITS", "KernelBuilder", "tree_fingerprint"]

LIMITS: Final = Limits(seconds=2 * 3600.0, output_bytes=256 << 20)
"""Of each run of make after a patch; the base, all of which is compiled, gets six times as long."""

_FORMAT: Final = 1
_BOOT_OPTION: Final = "ARM64_BOOT_TIME_PAGE_SIZE"
# What no patch is to blame for: a full disk, and a compiler that the host ended.
_HOST: Final = re.compile(
    r"No space left on device|[Kk]illed signal terminated|: Killed\b|[Cc]annot allocate memory"
)
_SOURCES: Final = (".c", ".S")
_MAX_OBJECTS: Final = 300
_SKIPPED: Final = frozenset({".git"})


@dataclass(slots=True)
class KernelBuilder:
    """Builds steps of one series; a context manager, which holds the tree's copy while it is in use."""

    cache: Cache
    toolchain: Toolchain
    base: SourceTree
    patches: Sequence[Patch]
    configurations: dict[PageSize | None, Configuration]
    """By page size; None for a kernel that takes it at boot."""
    progress: Progress
    limits: Limits = LIMITS
    fingerprint: str = ""
    """Of a base that may change: see `tree_fingerprint`."""
    _step: int | None = None
    _tree: SourceTree | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def key(self, step: int, size: PageSize | None) -> str:
        """Names the result: equal inputs have equal keys, whatever patches follow."""
        text = "\n".join(
            (
                str(_FORMAT),
                self.base.id,
                self.fingerprint,
                series_digest(self.patches[:step]),
                self.configurations[size].digest,
                self.toolchain.version,
            )
        )
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def build(self, step: int, size: PageSize | None) -> Built:
        """The kernel of a step, or why there is none.

        Raises UsageError where the base cannot be built as it was asked for, InfraError for what no
        patch is to blame for.
        """
        start_s = time.monotonic()
        tree = self._at(step)
        if size is None and not knows_option(tree.path, _BOOT_OPTION):
            return Built(
                outlook=Outlook.ABSENT,
                errors=(f"the tree has no {_BOOT_OPTION}",),
                compiler=self.toolchain.version,
            )
        token = "boot" if size is None else size.token
        order = Order(
            name=f"series-{step}-{token}",
            page_size=size,
            configuration=self.configurations[size],
            steps=1900,
            watched=True,
            limits=self._limits(step),
        )
        self._absorb_interrupted(order, tree)
        maker = Maker(self.cache, self.toolchain, self._named(step, token))
        try:
            made = maker.make(order, tree)
        except BuildFailed as error:
            return self._failed(error, tree, time.monotonic() - start_s)
        except UsageError as error:
            if step == 0:
                raise
            return Built(
                outlook=Outlook.FAILED,
                errors=(f"configuring: {error}",),
                compiler=self.toolchain.version,
                seconds=time.monotonic() - start_s,
            )
        return self._built(made, tree, step, time.monotonic() - start_s)

    def _at(self, step: int) -> SourceTree:
        """The tree's copy at a step."""
        if self._tree is None or self._step != step:
            self._stack.close()
            self._tree = self._stack.enter_context(
                patched(self.cache, self.base, self.patches[:step], progress=self.progress, copy=True)
            )
            self._step = step
        return self._tree

    def _limits(self, step: int) -> Limits:
        seconds = self.limits.seconds
        return self.limits if step or seconds is None else replace(self.limits, seconds=6 * seconds)

    def _absorb_interrupted(self, order: Order, tree: SourceTree) -> None:
        """Take over what a build printed that was killed: its objects are there and not compiled again.

        But for those that it did not come to tell of, which are made anew.
        """
        output = self.cache.shared_workdir(build_name(order, tree))
        log = output / BUILD_LOG
        if log.exists():
            ledger = Ledger.read(output, tree.path)
            ledger.absorb(log)
            ledger.save()
            told_ns = log.stat().st_mtime_ns
            for made in output.rglob("*.o"):
                if made.stat().st_mtime_ns > told_ns:
                    made.unlink()

    def _failed(self, error: BuildFailed, tree: SourceTree, seconds: float) -> Built:
        ledger = Ledger.read(error.output, tree.path)
        objects = ledger.absorb(error.log)
        ledger.save()
        said = error.errors or (str(error),)
        if any(_HOST.search(line) for line in said):
            raise InfraError(f"the build was not the patch's to fail: {'; '.join(said)}") from error
        return Built(
            outlook=Outlook.FAILED,
            errors=tuple(_shortened(line, tree.path, error.output) for line in said),
            place=first_place(error.log, tree.path, error.output),
            objects=objects[:_MAX_OBJECTS],
            warnings=ledger.warnings(),
            compiler=self.toolchain.version,
            seconds=seconds,
        )

    def _built(self, made: Made, tree: SourceTree, step: int, seconds: float) -> Built:
        kernel = made.kernel
        ledger = Ledger.read(made.output, tree.path)
        objects = ledger.absorb(made.output / BUILD_LOG)
        ledger.save()
        sources = [path for path in self.patches[step - 1].files if path.endswith(_SOURCES)] if step else []
        return Built(
            outlook=Outlook.BUILT,
            image=str(kernel.image),
            digest=_digest(kernel.image, kernel.modules),
            release=kernel.release,
            objects=objects[:_MAX_OBJECTS],
            left_out=tuple(
                path
                for path in sources
                if (tree.path / path).exists() and not (made.output / path).with_suffix(".o").exists()
            ),
            warnings=ledger.warnings(),
            dropped=tuple(missing.option for missing in made.dropped),
            compiler=self.toolchain.version,
            image_bytes=kernel.image.stat().st_size,
            seconds=seconds,
        )

    def _named(self, step: int, token: str) -> Progress:
        name = f"patch {step}" if step else "base"
        return lambda done, total, what: self.progress(done, total, f"{name} at {token}: {what}")


def tree_fingerprint(tree: SourceTree, avoided: Path) -> str:
    """What a directory of the user's holds, by names, sizes and times; empty for a tree that never changes.

    `avoided`: the cache, which may lie in it.
    """
    if tree.is_fixed:
        return ""
    digest = hashlib.sha256()
    for folder, names, files in os.walk(tree.path):
        names[:] = sorted(name for name in names if name not in _SKIPPED and Path(folder, name) != avoided)
        for name in sorted(files):
            path = Path(folder, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            digest.update(
                f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
    return digest.hexdigest()[:32]


def _digest(image: Path, modules: Path | None) -> str:
    digest = hashlib.sha256(sha256_of(image).encode())
    for path in sorted(modules.rglob("*.ko")) if modules is not None else ():
        digest.update(f"{path.name} {sha256_of(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _shortened(line: str, source: Path, output: Path) -> str:
    """A line of the compiler's with paths from the top of the tree."""
    return " ".join(short_path(word, source, output) for word in line.split(" "))[:500]
