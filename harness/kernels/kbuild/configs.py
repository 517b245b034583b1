"""What a kernel is configured from: fragments over allnoconfig, or over a full configuration.

A fragment is what somebody asks for, so each of its options has to survive. A full configuration may be
another version's: what this tree makes of it is taken, and what got lost is said.

Source: Linux Documentation/kbuild/kconfig.rst, and scripts/kconfig/confdata.c for the first lines written.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.kernels.catalogue import Catalogue
from harness.linux.kconfig import MAX_CONFIG_BYTES, Kconfig, Missing
from harness.spec import PageSize

__all__ = [
    "BOOT",
    "Base",
    "Configuration",
    "Fragment",
    "dropped_from",
    "page_fragment",
    "read_configuration",
    "read_fragment",
    "read_page_fragment",
    "replaced_by",
]

BOOT = "boot"
"""What --page-size and fragments call a kernel that takes its page size at boot."""

_WRITTEN_BY_KCONFIG = "Automatically generated"
_TARGET = re.compile(r"(?:[a-z0-9_-]*defconfig|tinyconfig|allnoconfig|allmodconfig|allyesconfig)")
_GZIP = b"\x1f\x8b"
# Where one of a choice is asked for, the others go: that is no loss.
_CHOICES = (
    re.compile(r"ARM64_(?:\d+K_PAGES|BOOT_TIME_PAGE_SIZE)"),
    re.compile(r"ARM64_VA_BITS_\d+"),
    re.compile(r"ARM64_PA_BITS_\d+"),
)
# What kconfig finds out by itself, about compiler and architecture; nobody asked for it.
_DERIVED = re.compile(
    r"(?:CC|AS|LD|GCC|CLANG|RUSTC?|BINDGEN|PAHOLE|TOOLS|LLD|GAS|HAVE|GENERIC|PAGE_SIZE"
    r"|ARCH_(?:HAS|HAVE|WANTS?|USE|USES|SUPPORTS?|ENABLE|SELECT|INLINE))_.*"
)


@dataclass(frozen=True, slots=True)
class Fragment:
    """Options that a build must have, and what to call them when one is lost."""

    name: str
    text: str

    @property
    def options(self) -> Kconfig:
        """The options in it; raises UsageError where the text is not Kconfig."""
        return Kconfig.parse(self.text, where=f"the fragment {self.name}")


@dataclass(frozen=True, slots=True)
class Base:
    """What fragments are laid over: a full configuration, or a make target of the tree that writes one."""

    name: str
    """The file's path, or the target."""
    text: str | None = None
    """None for a target."""

    @property
    def options(self) -> Kconfig:
        """The options in it: none for a target, which the tree knows and we do not."""
        return Kconfig.parse(self.text or "", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Fragments, in order, and what they are laid over: allnoconfig where there is no base."""

    fragments: tuple[Fragment, ...]
    base: Base | None = None
    place: str = ""
    """Names its build directories; the same when a file's content changes. Empty: the fragments' names."""

    @property
    def names(self) -> tuple[str, ...]:
        """Base and fragments, for people and for a kernel's recipe."""
        fragments = tuple(fragment.name for fragment in self.fragments)
        return (self.base.name, *fragments) if self.base else fragments

    @property
    def origin(self) -> str:
        """The base, in words."""
        if self.base is None:
            return "allnoconfig"
        return f"make {self.base.name}" if self.base.text is None else f"the configuration {self.base.name}"

    @property
    def directory_name(self) -> str:
        """Part of the name of its build directories."""
        return self.place or "-".join(fragment.name for fragment in self.fragments)

    @property
    def digest(self) -> str:
        """Of what is asked for: comments and blank lines do not make another kernel."""
        lines = [
            f"{option}={value}" for fragment in self.fragments for option, value in fragment.options.items()
        ]
        if self.base is not None:
            lines.append(f"over {self.base.name if self.base.text is None else ''}")
            lines += [f"{option}={value}" for option, value in self.base.options.items()]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def over_it(self, fragment: Fragment) -> Configuration:
        """With one fragment more, the last and strongest."""
        place = f"{self.place}-{fragment.name}" if self.place else ""
        return replace(self, fragments=(*self.fragments, fragment), place=place)


def page_fragment(page_size: PageSize | None) -> str:
    """The name of the fragment with that page size; None means that it is chosen at boot."""
    return f"page-{BOOT if page_size is None else page_size.token}"


def read_configuration(words: Sequence[str], catalogue: Catalogue) -> Configuration:
    """The configuration that a user names: fragments of ours, files, and at most one base.

    A file that kconfig wrote, as its first lines say, is a base; any other is a fragment. `defconfig` and the
    like are make targets. Raises UsageError for what is none of these, and for two bases.
    """
    fragments: list[Fragment] = []
    bases: list[Base] = []
    places: list[str] = []
    for word in words:
        part, place = _part(word, catalogue)
        if isinstance(part, Fragment):
            fragments.append(part)
        else:
            bases.append(part)
        places.append(place)
    if len(bases) > 1:
        names = " and ".join(base.name for base in bases)
        raise UsageError(f"--config names two full configurations, {names}; one can be the base")
    digest = hashlib.sha256("\n".join(places).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    own = not bases and not any("/" in place for place in places)
    return Configuration(
        fragments=tuple(fragments), base=bases[0] if bases else None, place="" if own else f"config-{digest}"
    )


def read_fragment(name: str, catalogue: Catalogue) -> Fragment:
    """One of our own fragments; raises UsageError where it cannot be read."""
    path = catalogue.fragment(name)
    try:
        return Fragment(name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the fragment {path}: {error}") from error


def read_page_fragment(page_size: PageSize | None, catalogue: Catalogue, *, whole: bool) -> Fragment:
    """Our fragment for a page size; unless `whole`, without the address bits, which a full configuration has.

    Raises UsageError where it cannot be read.
    """
    fragment = read_fragment(page_fragment(page_size), catalogue)
    if whole or page_size is None:  # that series wants 48 bits
        return fragment
    kept = {option: value for option, value in fragment.options.items() if _CHOICES[0].fullmatch(option)}
    return Fragment(fragment.name, "".join(f"CONFIG_{option}={value}\n" for option, value in kept.items()))


def replaced_by(fragments: Sequence[Fragment], option: str) -> bool:
    """True where the fragments decide an option: they set it, or another of the same choice."""
    asked = {wanted for fragment in fragments for wanted in fragment.options}
    return option in asked or any(
        choice.fullmatch(option) and any(choice.fullmatch(wanted) for wanted in asked) for choice in _CHOICES
    )


def dropped_from(base: Base, fragments: Sequence[Fragment], config: Kconfig) -> tuple[Missing, ...]:
    """The options set in `base` that `config` lacks, apart from those that the fragments replaced.

    What kconfig only found out by itself comes last.
    """
    lost = [
        Missing(option, wanted, config.get(option))
        for option, wanted in base.options.items()
        if wanted != "n" and config.get(option, "n") == "n" and not replaced_by(fragments, option)
    ]
    return tuple(sorted(lost, key=lambda missing: bool(_DERIVED.fullmatch(missing.option))))


def _part(word: str, catalogue: Catalogue) -> tuple[Fragment | Base, str]:
    """A word of --config, and what names it for good: a fragment's or target's name, or a file's place."""
    if "/" not in word:
        if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", word) and catalogue.fragment(word).is_file():
            return read_fragment(word, catalogue), word
        if _TARGET.fullmatch(word):
            return Base(word), word
    path = Path(word).expanduser() if word.startswith("~/") else Path(word)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in catalogue.where.parent.glob("*.config")))
        raise UsageError(
            f"--config {word}: no such file, nor a fragment of ours ({known}), nor a make target such as "
            "defconfig"
        )
    text = _read(path)
    place = str(path.resolve())
    if _WRITTEN_BY_KCONFIG in text[:400]:
        Kconfig.parse(text, where=str(path))
        return Base(str(path), text), place
    fragment = Fragment(str(path), text)
    if not fragment.options:
        raise UsageError(f"--config {word}: it sets no option")
    return fragment, place


def _read(path: Path) -> str:
    """A configuration's text, unpacked where it is gzip's, as /proc/config.gz is."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if data.startswith(_GZIP):
            with gzip.open(path) as packed:
                data = packed.read(MAX_CONFIG_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read the kernel configuration {path}: {error}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise UsageError(f"{path} is over {MAX_CONFIG_BYTES >> 20} MiB long: not a kernel configuration")
    if b"\0" in data:
        raise UsageError(f"{path} is a binary file, not a kernel configuration")
    return data.decode("utf-8", "replace")
