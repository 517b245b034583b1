"""What is tried, a patch or the source of a module, and a kernel's drivers with it and without."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.hyperv.modules import MODULES, rebuild
from harness.kernels.kbuild.build import BuildFailed
from harness.kernels.kbuild.module_tree import module_tree
from harness.kernels.kbuild.out_of_tree import build_modules, with_modules
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.store import KernelStore
from harness.kernels.trees.diff import parts_of
from harness.kernels.trees.patches import Patch, read_all_series
from harness.trial.affected import Affected, affected

__all__ = ["Change", "DoesNotBuild"]

_CHANGE: Final = "the change"
"""What messages call the patches that were put together."""
_KBUILD: Final = ("Kbuild", "Makefile")


class DoesNotBuild(Exception):
    """The change was compiled and the compiler, or modpost, refused it; says with what words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One or more patches, or a directory with a module's source and its Kbuild file."""

    label: str
    series: tuple[Patch, ...] = ()
    directory: Path | None = None

    @classmethod
    def of_patches(cls, paths: Sequence[Path]) -> Change:
        """From files as `granule kernels build --patches` takes them; raises UsageError."""
        series = read_all_series(paths)
        return cls(label=", ".join(patch.subject for patch in series), series=series)

    @classmethod
    def of_module(cls, directory: Path) -> Change:
        """From a directory; raises UsageError where nothing there says how to build it."""
        if not any((directory / name).is_file() for name in _KBUILD):
            raise UsageError(
                f"{directory} has neither Kbuild nor Makefile: kbuild's own say what a module is made of "
                "(obj-m := hv_storvsc.o)"
            )
        return cls(label=str(directory), directory=directory)

    @property
    def affected(self) -> Affected:
        """What the patches change; nothing where a module's source was given, which says so itself."""
        return affected(dict.fromkeys(file for patch in self.series for file in patch.files))

    def without(
        self, kernel: Kernel, store: KernelStore, cache: Cache, scratch: Path, progress: Progress = quiet
    ) -> Kernel:
        """The kernel to compare with: for patches its modules rebuilt by the same compiler, without them."""
        modules = self.affected.modules
        if self.directory is not None or self.affected.beyond or not modules:
            return kernel
        source = store.source_of(kernel.name).path
        return with_modules(
            kernel, rebuild(cache, kernel, modules, source=source, progress=progress), _fresh(scratch)
        )

    def applied(
        self, kernel: Kernel, store: KernelStore, cache: Cache, scratch: Path, progress: Progress = quiet
    ) -> Kernel:
        """The kernel with the change in it.

        Raises UsageError where it does not apply or this kernel cannot have it, DoesNotBuild, InfraError.
        """
        if self.directory is not None:
            made = _own_modules(self.directory, kernel, cache, _fresh(scratch), progress)
            return with_modules(kernel, made, _fresh(scratch))
        source = store.source_of(kernel.name)
        if self.affected.beyond:
            if not store.catalogue.find(kernel.name).source.is_built:
                files = ", ".join(self.affected.beyond[:3])
                raise UsageError(
                    f"{kernel.name} is Debian's own build, and {files} is no part of a module that can take "
                    "the place of its own: try a kernel that is built here, such as trimmed-hyperv-64k"
                )
            try:
                return store.build_tree(kernel.name, source.path, self.series).kernel
            except BuildFailed as error:
                raise DoesNotBuild(str(error)) from error
        whole = _fresh(scratch) / _CHANGE
        whole.write_bytes(self._of_modules())
        try:
            made = rebuild(cache, kernel, self.affected.modules, whole, source=source.path, progress=progress)
        except InfraError as error:  # the same was built without the patch a moment ago
            raise DoesNotBuild(str(error)) from error
        return with_modules(kernel, made, _fresh(scratch))

    def modules_in(self, kernel: Kernel) -> tuple[str, ...]:
        """The drivers of a kernel from `applied` that the change is to be seen in."""
        if self.directory is not None and kernel.modules is not None:
            return tuple(sorted(module.stem for module in (kernel.modules / "updates").glob("*.ko")))
        return self.affected.modules

    def _of_modules(self) -> bytes:
        """The patches one after the other, without what they change in files that no module is made of."""
        idle = set(self.affected.idle)
        kept = (
            part.text
            for patch in self.series
            for part in parts_of(patch.diff.decode("utf-8", "surrogateescape"), where=patch.name)
            if not idle.issuperset(part.files)
        )
        return "".join(kept).encode("utf-8", "surrogateescape")


def _fresh(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


def _own_modules(
    directory: Path, kernel: Kernel, cache: Cache, kept: Path, progress: Progress
) -> tuple[Path, ...]:
    """The modules of a directory of the user's, built in a copy of it, and put into `kept`."""
    require_programs()
    with (
        module_tree(cache, kernel, progress=progress) as headers,
        cache.workdir(f"trial-{kernel.release}") as work,
    ):
        shutil.rmtree(work)
        shutil.copytree(
            directory, work, symlinks=True, ignore=shutil.ignore_patterns("*.o", "*.ko", ".*.cmd")
        )
        try:
            made = build_modules(
                headers, work, kernel.release, Toolchain.find(), ccache_dir=cache.shared_workdir("ccache"),
                progress=progress,
            )  # fmt: skip
        except InfraError as error:
            raise DoesNotBuild(str(error)) from error
        unknown = [module.stem for module in made if module.stem not in MODULES]
        if unknown:
            raise UsageError(
                f"{directory} makes {', '.join(unknown)}, and nothing here loads that; there are "
                f"{', '.join(MODULES)}"
            )
        return tuple(Path(shutil.copy(module, kept)) for module in made)
