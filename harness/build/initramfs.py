"""Initramfs archives, written byte for byte the same each time.

The format is cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst in Linux), which
the kernel takes concatenated and, segment by segment, compressed. Ours stay uncompressed: QEMU copies
them into memory at once, while unpacking costs an emulated guest more time than everything else it does
before its first process.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MAGIC", "TRAILER", "Entry", "device", "directory", "file", "symlink", "tree", "write_cpio"]

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of an archive, owned by root and dated 1970."""

    name: str
    """Path without a leading slash."""
    mode: int
    """File type and permissions, as in `st_mode`."""
    data: bytes = b""
    """Contents of a file, target of a symbolic link."""
    major: int = 0
    minor: int = 0


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name=name, mode=stat.S_IFREG | permissions, data=data)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name=name, mode=stat.S_IFDIR | permissions)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link to `target`."""
    return Entry(name=name, mode=stat.S_IFLNK | 0o777, data=target.encode())


def device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device."""
    return Entry(name=name, mode=stat.S_IFCHR | permissions, major=major, minor=minor)


def tree(source: Path, name: str) -> tuple[Entry, ...]:
    """A file of this machine, or a directory with all below it, as `name` and `name/…`.

    Permissions and symbolic links are kept, owners and dates are not; what is neither file, directory nor
    link is left out.
    """
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        return (symlink(name, str(source.readlink())),)
    if stat.S_ISREG(mode):
        return (file(name, source.read_bytes(), stat.S_IMODE(mode)),)
    if not stat.S_ISDIR(mode):
        return ()
    below = (tree(child, f"{name}/{child.name}") for child in sorted(source.iterdir()))
    return (directory(name, stat.S_IMODE(mode)), *(entry for entries in below for entry in entries))


def with_parents(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries sorted by name, parents before children; directories that nobody named are added.

    Raises ValueError on a name that is absolute, empty, climbs with `..` or occurs twice.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        parts = entry.name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in entry.name:
            raise ValueError(f"not a name for an archive: {entry.name!r}")
        if entry.name in by_name:
            raise ValueError(f"twice in one archive: {entry.name!r}")
        by_name[entry.name] = entry
    for name in list(by_name):
        for parent in Path(name).parents:
            if str(parent) != ".":
                by_name.setdefault(str(parent), directory(str(parent)))
    return tuple(by_name[name] for name in sorted(by_name, key=lambda name: name.split("/")))


def padding(length: int) -> bytes:
    """What brings that many bytes to the next multiple of 4."""
    return b"\0" * (-length % 4)


def member(inode: int, entry: Entry) -> bytes:
    """One archive member: header, name, data, each padded to 4 bytes."""
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode,
        entry.mode,
        0,
        0,
        links,
        0,
        len(entry.data),
        0,
        0,
        entry.major,
        entry.minor,
        len(name),
        0,
    )
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return head + padding(len(head)) + entry.data + padding(len(entry.data))


def write_cpio(path: Path, entries: Iterable[Entry]) -> None:
    """Write an archive whose bytes depend on the entries alone, not on their order or on the time.

    Missing parent directories are added; its length is a multiple of 512, so that archives can be
    concatenated. Raises ValueError on names that no archive should hold.
    """
    length = 0
    with path.open("wb") as out:
        for inode, entry in enumerate(with_parents(entries), start=1):
            length += out.write(member(inode, entry))
        # The kernel skips a trailer's other fields.
        length += out.write(member(0, Entry(name=TRAILER, mode=0)))
        out.write(b"\0" * (-length % 512))
