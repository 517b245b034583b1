"""Kconfig's output and fragments: parsing `.config` text, finding one inside an Image, comparing.

Sources: Linux Documentation/kbuild/kconfig-language.rst, scripts/kconfig/confdata.c (the line format),
kernel/configs.c (the embedded copy).
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.errors import UsageError
from harness.reading import read_bounded
from harness.spec import PageSize

__all__ = [
    "MAX_CONFIG_BYTES",
    "Kconfig",
    "Missing",
    "embedded_config",
    "missing_from",
    "option_of",
    "page_size_of",
    "read_config",
]

MAX_CONFIG_BYTES = 8 << 20
_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")
_START = b"IKCFG_ST"
_GZIP = b"\x1f\x8b\x08"


@dataclass(frozen=True, slots=True)
class Kconfig(Mapping[str, str]):
    """The options a `.config` or a fragment sets, by name without `CONFIG_`; `n` is kept as `n`."""

    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, *, where: str = "the configuration") -> Kconfig:
        """From `.config` text; raises UsageError for a line that is neither option, comment nor blank."""
        options: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if found := _SET.fullmatch(line):
                options[found[1]] = _plain(found[2])
            elif found := _UNSET.fullmatch(line):
                options[found[1]] = "n"
            elif line and not line.startswith("#"):
                raise UsageError(
                    f"line {number} of {where} is not Kconfig: '{line[:80]}'. Wanted CONFIG_NAME=value "
                    "or '# CONFIG_NAME is not set'."
                )
        return cls(MappingProxyType(options))

    def __getitem__(self, option: str) -> str:
        return self.options[option.removeprefix("CONFIG_")]

    def __iter__(self) -> Iterator[str]:
        return iter(self.options)

    def __len__(self) -> int:
        return len(self.options)

    def enabled(self, option: str) -> bool:
        """True where the option is `y` or `m`."""
        return self.get(option) in ("y", "m")


@dataclass(frozen=True, slots=True)
class Missing:
    """An option that a fragment wanted and a configuration does not have."""

    option: str
    wanted: str
    found: str | None
    """None where the configuration does not mention it."""

    def __str__(self) -> str:
        found = "absent" if self.found is None else self.found
        return f"CONFIG_{self.option}: wanted {self.wanted}, found {found}"


def read_config(path: Path) -> Kconfig:
    """Parse a configuration file; raises UsageError when it cannot be read or is no configuration."""
    text = read_bounded(
        path, MAX_CONFIG_BYTES, what="the kernel configuration ", too_long="not a kernel configuration"
    )
    return Kconfig.parse(text.decode("utf-8", "replace"), where=str(path))


def embedded_config(image: Path) -> str | None:
    """The text that IKCONFIG put into a raw Image, or None.

    Between IKCFG_ST and IKCFG_ED lies gzip data (kernel/configs.c). Other strings may
    contain the marker, so it counts only before a gzip header.
    """
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_START + _GZIP)
        if at < 0:
            return None
        engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            text = engine.decompress(data[at + len(_START) : at + MAX_CONFIG_BYTES], MAX_CONFIG_BYTES)
        except zlib.error:
            return None
        return text.decode("utf-8", "replace") if engine.eof else None


def missing_from(fragment: Kconfig, config: Kconfig) -> tuple[Missing, ...]:
    """What `config` lacks of `fragment`: `=n` and `is not set` want the option absent or unset."""
    return tuple(
        Missing(option, wanted, config.get(option))
        for option, wanted in fragment.items()
        if config.get(option, "n") != wanted
    )


def option_of(line: str) -> str | None:
    """The option that a line of `.config` text sets or unsets; None for any other line."""
    found = _SET.fullmatch(line.strip()) or _UNSET.fullmatch(line.strip())
    return None if found is None else found[1]


def page_size_of(config: Kconfig) -> PageSize | None:
    """The page size a configuration was built for; None for a boot-time kernel or another architecture."""
    if config.enabled("ARM64_BOOT_TIME_PAGE_SIZE"):
        return None
    sizes = {"ARM64_4K_PAGES": PageSize.K4, "ARM64_16K_PAGES": PageSize.K16, "ARM64_64K_PAGES": PageSize.K64}
    return next((size for option, size in sizes.items() if config.enabled(option)), None)


def _plain(value: str) -> str:
    """A value without the quotes that only strings have, escapes undone (confdata.c, conf_set_sym_val)."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value
