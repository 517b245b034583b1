"""Hyper-V's guest drivers rebuilt from source, with a patch or without, for a kernel of Debian's or ours."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.errors import KernelUnavailable, UsageError
from harness.kernels.kbuild.module_tree import module_tree
from harness.kernels.kbuild.out_of_tree import apply_patch, build_modules
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet

__all__ = ["MODULES", "debian_source", "rebuild"]

_KIND: Final = "modules"
_FORMAT: Final = 3
_PACKAGE: Final = "linux-source-6.12"
HEADER: Final = "include/linux/hyperv.h"


@dataclass(frozen=True, slots=True)
class _Module:
    directory: str
    sources: tuple[str, ...]
    """Patterns in that directory."""
    kbuild: str


MODULES: Final = {
    "hv_vmbus": _Module("drivers/hv", ("*.c", "*.h"), "hv"),
    "hv_utils": _Module("drivers/hv", ("*.c", "*.h"), "hv"),
    "hv_balloon": _Module("drivers/hv", ("*.c", "*.h"), "hv"),
    "hv_storvsc": _Module("drivers/scsi", ("storvsc_drv.c",), "storvsc"),
    "hv_netvsc": _Module("drivers/net/hyperv", ("*.c", "*.h"), "netvsc"),
    "hv_sock": _Module("net/vmw_vsock", ("hyperv_transport.c",), "sock"),
}
"""Modules that can be rebuilt, and what each is made of."""


def debian_source(cache: Cache, kernel: Kernel) -> Path:
    """Debian's source of that kernel in the cache; raises KernelUnavailable where it is not there."""
    version = kernel.release.partition("+")[0].partition("-")[0]
    for key in cache.keys("sources"):
        if key.startswith(f"{_PACKAGE}_{version}-"):
            found = cache.find("sources", key)
            if found is not None:
                return found / "tree"
    raise KernelUnavailable(
        f"the source of {kernel.release} is not in the cache: `granule kernels fetch trimmed-4k` fetches"
        f" Debian's newest {_PACKAGE}; `granule kernels fetch --refresh {kernel.name}` the kernel that goes"
        " with it"
    )


def rebuild(
    cache: Cache, kernel: Kernel, names: Iterable[str], patch: Path | None = None, *,
    source: Path | None = None, offline: bool = False, progress: Progress = quiet,
) -> tuple[Path, ...]:  # fmt: skip
    """The .ko files of modules of MODULES, from the cache when nothing that they are made of has changed.

    Arguments: `patch`, applied with -p1; `source`, a tree of that kernel's (Debian's by default), which is
    not written to. Raises UsageError for an unknown name or a patch that does not apply, InfraError.
    """
    wanted = sorted(set(names))
    unknown = [name for name in wanted if name not in MODULES]
    if unknown or not wanted:
        raise UsageError(
            f"no module called {', '.join(unknown) or 'nothing'}; there are {', '.join(MODULES)}"
        )
    require_programs()
    toolchain = Toolchain.find()
    tree = source or debian_source(cache, kernel)
    digest = hashlib.sha256(
        repr((_FORMAT, kernel.release, kernel.sha256, wanted, toolchain.version)).encode()
    )
    digest.update(b"" if patch is None else patch.read_bytes())
    for path in _files(tree, wanted):
        digest.update(path.read_bytes())

    def build(directory: Path) -> None:
        # Always in the same place, so that ccache knows again what a patch leaves alone.
        with (
            module_tree(cache, kernel, offline=offline, progress=progress) as headers,
            cache.workdir(f"modules-{kernel.release}") as work,
        ):
            shutil.rmtree(work)
            _lay_out(tree, work, wanted)
            if patch is not None:
                apply_patch(work, patch)
            made = build_modules(
                headers, work, kernel.release, toolchain, ccache_dir=cache.shared_workdir("ccache"),
                includes=("include", "include/trace"), progress=progress,
            )  # fmt: skip
            for module in made:
                if module.stem in wanted:
                    shutil.copyfile(module, directory / module.name)

    label = f"{', '.join(wanted)} of {kernel.release}{f' with {patch.stem}' if patch else ''}"
    path = cache.make(_KIND, digest.hexdigest()[:32], build, describe=label)
    return tuple(sorted(path.glob("*.ko")))


def _files(tree: Path, wanted: Iterable[str]) -> list[Path]:
    """Every source of those modules, and the header that they share."""
    found = {tree / HEADER}
    for name in wanted:
        module = MODULES[name]
        found |= {path for pattern in module.sources for path in (tree / module.directory).glob(pattern)}
    return sorted(found)


def _lay_out(tree: Path, work: Path, wanted: list[str]) -> None:
    """A small tree with the paths of the large one, so that patches of the one fit the other."""
    kbuild = Path(__file__).with_name("kbuild")
    for path in _files(tree, wanted):
        copy = work / path.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    # netvsc_trace.h names itself relative to include/trace.
    (work / "include/trace").mkdir(parents=True, exist_ok=True)
    directories = sorted({MODULES[name].directory for name in wanted})
    for name in wanted:
        shutil.copyfile(kbuild / f"{MODULES[name].kbuild}.kbuild", work / MODULES[name].directory / "Kbuild")
    (work / "Kbuild").write_text(
        f"obj-m := {' '.join(f'{name}/' for name in directories)}\n", encoding="utf-8"
    )
