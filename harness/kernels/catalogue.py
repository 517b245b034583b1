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
_REQUIRED = frozenset({"name", "page_size", "source", "package", "suite", "purpose"})
_NAMES = frozenset({"name", "family", "suite", "package"})
_OPTIONAL = frozenset({"family", "fragments", "steps"})


class SourceKind(Enum):
    """Where a kernel of the catalogue comes from."""

    DEBIAN = "debian"
    BUILD = "build"

    @property
    def is_built(self) -> bool:
        """True where getting it means minutes of compiling."""
        return self is SourceKind.BUILD


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueKernel:
    """One entry of the catalogue."""

    name: str
    page_size: PageSize | None
    """None for a boot-time kernel."""
    source: SourceKind
    package: str
    """Debian's name of the kernel metapackage or the source package."""
    suite: str
    """Debian's name of the release that carries it."""
    purpose: str
    family: str = ""
    fragments: tuple[str, ...] = ()
    """Names of files in kernel-configs, without `.config`."""
    steps: int = 0
    """Lines that a first build prints, roughly."""


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
    said = [f"lacks {name}" for name in sorted(_REQUIRED - fields.keys())]
    said += [f"has unknown {name}" for name in sorted(fields.keys() - _REQUIRED - _OPTIONAL)]
    if said:
        raise ValueError(", ".join(said))
    for name in sorted((_REQUIRED | {"family"}) & fields.keys()):
        text = fields[name]
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise ValueError(f"{name} must be one line of text")
        if name in _NAMES and not _NAME.fullmatch(text):
            raise ValueError(f"'{text}' is no {name}: use a-z, 0-9, '.' and '-'")
    fragments = fields.get("fragments", [])
    if not isinstance(fragments, list) or not all(
        isinstance(f, str) and _NAME.fullmatch(f) for f in fragments
    ):
        raise ValueError("fragments must be a list of names")
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
    try:
        page_size = None if fields["page_size"] == BOOT_TIME else PageSize.parse(fields["page_size"])
    except UsageError as error:
        raise ValueError(f"{error}, or '{BOOT_TIME}'") from None
    return CatalogueKernel(
        name=fields["name"],
        page_size=page_size,
        source=source,
        package=fields["package"],
        suite=fields["suite"],
        purpose=fields["purpose"],
        family=fields.get("family", ""),
        fragments=fragments,
        steps=fields.get("steps", 0),
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
