"""Which drivers of Hyper-V's a patch changes, by the files that it touches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Final

import harness.hyperv
from harness.hyperv.modules import HEADER, MODULES

__all__ = ["Affected", "affected"]

_OBJECTS: Final = re.compile(r"(\w+)-y := (.*)")
_NO_CODE: Final = ("Documentation/*", "MAINTAINERS", "CREDITS", "*.rst", "*.txt", "tools/*", "*/.gitignore")
_ELSEWHERE: Final[Mapping[str, str]] = {
    "drivers/pci/controller/pci-hyperv*": "pci-hyperv",
    "drivers/uio/uio_hv_generic.c": "uio_hv_generic",
    "drivers/video/fbdev/hyperv_fb.c": "hyperv_fb",
    "drivers/gpu/drm/hyperv/*": "hyperv_drm",
    "drivers/hid/hid-hyperv.c": "hid-hyperv",
    "drivers/input/serio/hyperv-keyboard.c": "hyperv-keyboard",
    "drivers/net/ethernet/microsoft/mana/*": "mana",
    "drivers/hv/mshv_*": "mshv",
}
"""Drivers of Hyper-V's that nothing here has a device for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What has to be built anew."""

    modules: tuple[str, ...] = ()
    """Of MODULES, which can be rebuilt by themselves."""
    beyond: tuple[str, ...] = ()
    """Files that are no part of those: a kernel has to be built for them."""
    idle: tuple[str, ...] = ()
    """Files that no kernel is made of."""

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Drivers of Hyper-V's among `beyond` that no device here speaks to."""
        found = (
            driver for path in self.beyond for pattern, driver in _ELSEWHERE.items() if fnmatch(path, pattern)
        )
        return tuple(dict.fromkeys(found))


def affected(files: Iterable[str]) -> Affected:
    """Sort the paths that a patch touches, from the top of the tree."""
    modules: set[str] = set()
    beyond: list[str] = []
    idle: list[str] = []
    for path in files:
        owners = _owners(path)
        if owners:
            modules |= owners
        elif any(fnmatch(path, pattern) for pattern in _NO_CODE):
            idle.append(path)
        else:
            beyond.append(path)
    return Affected(
        modules=tuple(name for name in MODULES if name in modules), beyond=tuple(beyond), idle=tuple(idle)
    )


def _owners(path: str) -> set[str]:
    """The modules that a file is compiled into; a directory's header belongs to all that are made there."""
    if path == HEADER:
        return set(MODULES)
    where = PurePosixPath(path)
    there = {
        name: module
        for name, module in MODULES.items()
        if module.directory == str(where.parent) and any(fnmatch(where.name, one) for one in module.sources)
    }
    if where.suffix == ".h":
        return set(there)
    return {name for name in there if where.stem in _objects(there[name].kbuild).get(name, (name,))}


def _objects(kbuild: str) -> Mapping[str, tuple[str, ...]]:
    """What each module of one of our Kbuild files is linked from, without `.o`, unless it is one object."""
    text = (Path(harness.hyperv.__path__[0]) / "kbuild" / f"{kbuild}.kbuild").read_text(encoding="utf-8")
    return {
        found[1]: tuple(word.removesuffix(".o") for word in found[2].split())
        for found in map(_OBJECTS.fullmatch, text.splitlines())
        if found is not None
    }
