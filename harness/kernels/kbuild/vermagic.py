"""Which kernel a directory of modules was built for, as the modules themselves say.

A module carries `vermagic=RELEASE …` in its section .modinfo (include/linux/vermagic.h), and the kernel
refuses one of another release (kernel/module/main.c, check_modinfo).
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.build.modules import MODULE_LIMIT_BYTES, SUFFIXES
from harness.errors import UsageError
from harness.linux.unpacking import unpacked

__all__ = ["modules_release"]

_PREFIX = b"vermagic="
_MAX_RELEASE_BYTES = 100


def modules_release(directory: Path) -> str | None:
    """The release that the first module below `directory` was built for; None where there is no module.

    Only the first, because reading all of a distribution's takes minutes. Raises UsageError where it cannot
    be read or is no module.
    """
    path = _first(directory)
    if path is None:
        return None
    try:
        content = _content(path)
        section = ELFFile(io.BytesIO(content)).get_section_by_name(".modinfo")
        data = b"" if section is None else section.data()
    except OSError as error:
        raise UsageError(f"cannot read the module {path}: {error.strerror}") from error
    # pyelftools lets what it meets in a damaged file escape as whatever error it ran into.
    except (
        ELFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise UsageError(f"{path} is not a kernel module: {error or 'not an ELF file'}") from error
    for field in data.split(b"\0"):
        if field.startswith(_PREFIX):
            words = field.removeprefix(_PREFIX)[:_MAX_RELEASE_BYTES].split()
            return words[0].decode("ascii", "backslashreplace") if words else ""
    raise UsageError(f"{path} is not a kernel module: it has no vermagic, which names its kernel")


def _first(directory: Path) -> Path | None:
    """The first module by path; the links `build` and `source` are not followed."""
    for parent, subdirectories, names in os.walk(directory):
        subdirectories.sort()
        for name in sorted(names):
            if name.endswith(tuple(SUFFIXES)):
                return Path(parent, name)
    return None


def _content(path: Path) -> bytes:
    """The module, unpacked, or as much of it as a module may have."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))
    compression = SUFFIXES[suffix]
    if compression is None:
        with path.open("rb") as file:
            return file.read(MODULE_LIMIT_BYTES)
    content = bytearray()
    with unpacked(path, 0, path.stat().st_size, compression) as blocks:
        for block in blocks:
            content += block
            if len(content) > MODULE_LIMIT_BYTES:
                break
    return bytes(content)
