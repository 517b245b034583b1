"""The kernels that exist: kernel-configs/catalogue.toml, read and checked."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from harness.errors import InfraError, UsageError
from harness.paths import data_dir
from harness.spec import PageSize

__all__ = ["BOOT_TIME", "Catalogue", "CatalogueKernel", "SourceKind"]

BOOT_TIME = "boot-time"
"""The `page_size` of a kernel that takes it from the command line."""

_SCHEMA = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_REQUIRED = frozenset({"name", "page_size", "source", "purpose"})
_FROM_DEBIAN = frozenset({"package", "suite"})
_NAMES = frozenset({"name", "family", "suite", "package"})
_OPTIONAL = frozenset({"family", "fragments", "steps", "members"})


class SourceKind(Enum):
    """Where a kernel of the catalogue comes from."""

    DEBIAN = "debian"
    BUILD = "build"
    COMBINE = "combine"

    @property
    def is_built(self) -> bool:
        """True where getting it means minutes of compiling."""
        return self is SourceKind.BUILD

    @property
    def is_combined(self) -> bool:
        """True where it is made of other kernels of the catalogue."""
        return self is SourceKind.COMBINE


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueKernel:
    """One entry of the catalogue."""

    name: str
    page_size: PageSize | None
    """None for a boot-time kernel."""
    source: SourceKind
    purpose: str
    package: str = ""
    """Debian's name of the kernel metapackage or the source package; empty for a combined one."""
    suite: str = ""
    """Debian's name of the release that carries it."""
    family: str = ""
    fragments: tuple[str, ...] = ()
    """Names of files in kernel-configs, without `.config`."""
    steps: int = 0
    """Lines that a first build prints, roughly."""
    members: tuple[str, ...] = ()
    """Names of the kernels that a combined one holds, one per page size."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All kernels that can be named."""

    kernels: tuple[CatalogueKernel, ...]
    where: Path
    """The file it was read from; fragments lie beside it."""

    @classmethod
    def load(cls, path: Path | None = None) -> Catalogue:
        """Read the catalogue; raises InfraError naming the entry and field that are wrong."""
        path = path or data_dir("kernel-configs") / "catalogue.toml"
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InfraError(f"cannot read the kernel catalogue {path}: {error}") from error
        if data.get("schema") != _SCHEMA or not isinstance(data.get("kernel"), list):
            raise InfraError(f"the kernel catalogue {path} wants 'schema = {_SCHEMA}' and [[kernel]] entries")
        kernels = tuple(_entry(fields, number, path) for number, fields in enumerate(data["kernel"], start=1))
        _refuse_clashes(kernels, path)
        _check_members(kernels, path)
        return cls(kernels, path)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all kernels, in the file's order."""
        return tuple(kernel.name for kernel in self.kernels)

    def find(self, name: str) -> CatalogueKernel:
        """The kernel of that name; raises UsageError naming those there are, and the near miss."""
        for kernel in self.kernels:
            if kernel.name == name:
                return kernel
        members = self.family(name)
        if members:
            names = ", ".join(kernel.name for kernel in members)
            raise UsageError(f"'{name}' stands for several kernels; one is wanted here: {names}")
        known = [*self.names, *sorted({kernel.family for kernel in self.kernels if kernel.family})]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"there is no kernel '{name}'.{hint} The catalogue has {', '.join(self.names)}; "
            "for a file, give a path with a '/' in it."
        )

    def family(self, name: str) -> tuple[CatalogueKernel, ...]:
        """The kernels that a family's name stands for, one per page size; empty for no family."""
        return tuple(kernel for kernel in self.kernels if kernel.family and kernel.family == name)

    def expand(self, name: str) -> tuple[CatalogueKernel, ...]:
        """A family's kernels, or the one of that name; raises UsageError as `find` does."""
        return self.family(name) or (self.find(name),)

    def fragment(self, name: str) -> Path:
        """The file of a fragment."""
        return self.where.parent / f"{name}.config"


def _entry(fields: object, number: int, path: Path) -> CatalogueKernel:
    """One [[kernel]] table as a value; raises InfraError for the first thing wrong with it."""
    name = fields.get("name", f"number {number}") if isinstance(fields, dict) else f"number {number}"
    try:
        if not isinstance(fields, dict):
            raise ValueError("is not a table")
        _check_fields(fields)
        kernel = _kernel(fields)
        for fragment in kernel.fragments:
            if not (path.parent / f"{fragment}.config").is_file():
                raise ValueError(f"its fragment {fragment}.config does not exist beside the catalogue")
    except ValueError as error:
        raise InfraError(f"kernel {name} in the catalogue {path}: {error}") from None
    return kernel


def _check_fields(fields: dict[str, object]) -> None:
    """Raise ValueError where a field is absent, unknown or of the wrong type."""
    required = _REQUIRED if fields.get("source") == SourceKind.COMBINE.value else _REQUIRED | _FROM_DEBIAN
    said = [f"lacks {name}" for name in sorted(required - fields.keys())]
    said += [f"has unknown {name}" for name in sorted(fields.keys() - required - _OPTIONAL)]
    if said:
        raise ValueError(", ".join(said))
    for name in sorted((required | {"family"}) & fields.keys()):
        text = fields[name]
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ValueError(f"{name} must be one line of text")
        if name in _NAMES and not _NAME.fullmatch(text):
            raise ValueError(f"'{text}' is no {name}: use a-z, 0-9, '.' and '-'")
    for name in ("fragments", "members"):
        names = fields.get(name, [])
        if not isinstance(names, list) or not all(isinstance(n, str) and _NAME.fullmatch(n) for n in names):
            raise ValueError(f"{name} must be a list of names")
    steps = fields.get("steps", 0)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ValueError("steps must be a number")


def _kernel(fields: dict[str, Any]) -> CatalogueKernel:
    """The value of checked fields; raises ValueError for a choice that does not exist."""
    if fields["source"] not in {kind.value for kind in SourceKind}:
        kinds = " or ".join(f"'{kind.value}'" for kind in SourceKind)
        raise ValueError(f"source is '{fields['source']}', wanted {kinds}")
    source = SourceKind(fields["source"])
    fragments = tuple(fields.get("fragments", ()))
    if source.is_built and not fragments:
        raise ValueError("a kernel that is built names its fragments")
    if fragments and not source.is_built:
        raise ValueError("only a kernel that is built has fragments")
    members = tuple(fields.get("members", ()))
    if source.is_combined and (len(members) < 2 or fields["page_size"] != BOOT_TIME):
        raise ValueError(f"a combined kernel names two or three members, and its page_size is '{BOOT_TIME}'")
    if members and not source.is_combined:
        raise ValueError("only a combined kernel has members")
    try:
        page_size = None if fields["page_size"] == BOOT_TIME else PageSize.parse(fields["page_size"])
    except UsageError as error:
        raise ValueError(f"{error}, or '{BOOT_TIME}'") from None
    return CatalogueKernel(
        name=fields["name"],
        page_size=page_size,
        source=source,
        purpose=fields["purpose"],
        package=fields.get("package", ""),
        suite=fields.get("suite", ""),
        family=fields.get("family", ""),
        fragments=fragments,
        steps=fields.get("steps", 0),
        members=members,
    )


def _refuse_clashes(kernels: tuple[CatalogueKernel, ...], path: Path) -> None:
    names = [kernel.name for kernel in kernels]
    for kernel in kernels:
        if names.count(kernel.name) > 1:
            raise InfraError(f"the kernel catalogue {path} has {kernel.name} twice")
        if kernel.family in names:
            raise InfraError(
                f"the kernel catalogue {path} has {kernel.family} both as a kernel and as a family"
            )
        twins = [
            other
            for other in kernels
            if other.family == kernel.family and other.page_size is kernel.page_size
        ]
        if kernel.family and len(twins) > 1:
            raise InfraError(
                f"the kernel catalogue {path} has two kernels of family {kernel.family} "
                "with the same page size: " + " and ".join(twin.name for twin in twins)
            )


def _check_members(kernels: tuple[CatalogueKernel, ...], path: Path) -> None:
    """A combined kernel's members are kernels of the catalogue, each of a page size of its own."""
    by_name = {kernel.name: kernel for kernel in kernels}
    for kernel in kernels:
        sizes = [by_name[name].page_size if name in by_name else None for name in kernel.members]
        if None in sizes or len(set(sizes)) < len(sizes):
            raise InfraError(
                f"kernel {kernel.name} in the catalogue {path}: its members must be kernels of the catalogue "
                "with different page sizes"
            )
