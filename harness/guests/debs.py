"""Debian packages without their compression, so that an emulated guest need not undo it.

A .deb is an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`; dpkg takes the two archives plain
as well (deb(5)). The host's dpkg-deb unpacks them, whatever they are compressed with.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from harness.errors import InfraError, ToolMissing

__all__ = ["files_of", "owners_in", "write_plain_deb"]

MAGIC = b"!<arch>\n"
UNPACK_S = 300
MEMBERS = (("control.tar", "--ctrl-tarfile"), ("data.tar", "--fsys-tarfile"))
# What one package may unpack to: Debian's largest is below this by far.
MEMBER_LIMIT_BYTES = 4 << 30
SAID_BYTES = 4096


def write_plain_deb(deb: Path, target: Path) -> None:
    """Write the same package with plain archives in it; raises InfraError with dpkg-deb's words."""
    with target.open("xb") as out:
        out.write(MAGIC)
        _member(out, "debian-binary", b"2.0\n")
        for name, option in MEMBERS:
            _unpacked_member(out, name, ("dpkg-deb", option, str(deb)))


def owners_in(archive: tarfile.TarFile) -> tuple[str, ...]:
    """`UID:GID MODE PATH` of what is not root's in a package, for whoever unpacks it as another user."""
    return tuple(
        f"{one.uid}:{one.gid} {one.mode:o} {one.name.removeprefix('./')}"
        for one in archive
        if (one.uid or one.gid) and not one.issym()
    )


@contextlib.contextmanager
def files_of(plain_deb: Path) -> Iterator[tarfile.TarFile]:
    """The archive of files in a package that `write_plain_deb` wrote; raises InfraError where it is none."""
    try:
        with plain_deb.open("rb") as file:
            data = _find_member(file, "data.tar")
            with tarfile.open(fileobj=data, mode="r:") as archive:
                yield archive
    except (OSError, ValueError, tarfile.TarError) as error:
        raise InfraError(f"{plain_deb} is not a Debian package: {error}") from error


def _find_member(file: BinaryIO, wanted: str) -> BinaryIO:
    """That member's content; raises ValueError when the archive has none."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin as an ar archive")
    while header := file.read(len(_header("", 0))):
        name, length = header[:16].decode("ascii").rstrip(), int(header[48:58])
        if name == wanted and 0 <= length <= MEMBER_LIMIT_BYTES:
            return io.BytesIO(file.read(length))
        file.seek(length + length % 2, io.SEEK_CUR)
    raise ValueError(f"it has no {wanted}")


def _member(out: BinaryIO, name: str, content: bytes) -> None:
    out.write(_header(name, len(content)) + content + b"\n" * (len(content) % 2))


def _unpacked_member(out: BinaryIO, name: str, argv: Sequence[str]) -> None:
    """A member whose content a program writes: its length is known, and put into its header, afterwards."""
    header_at = out.tell()
    out.write(_header(name, 0))
    out.flush()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=False, timeout=UNPACK_S
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0], package="dpkg") from None
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"{' '.join(argv)} did not end within {UNPACK_S} s") from error
    if done.returncode != 0:
        said = done.stderr[-SAID_BYTES:].decode("utf-8", "replace").strip()
        raise InfraError(f"{' '.join(argv)} failed with status {done.returncode} and said: {said}")
    end = out.seek(0, 2)
    length = end - header_at - len(_header(name, 0))
    if length > MEMBER_LIMIT_BYTES:
        raise InfraError(f"{argv[-1]} unpacks to {length} bytes, more than any package of Debian's")
    out.write(b"\n" * (length % 2))
    out.seek(header_at)
    out.write(_header(name, length))
    out.seek(0, 2)


def _header(name: str, length: int) -> bytes:
    """Name, date, owner, group, mode and length, in columns (ar(5))."""
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{length:<10}`\n".encode("ascii")
