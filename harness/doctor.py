"""What this host has and lacks, with the command that mends each."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from harness.build.toolchain import Toolchain
from harness.cache import default_root
from harness.errors import GranuleError
from harness.kernels.apt import host_mirror
from harness.matrix.budget import available_mib
from harness.qemu.probe import Qemu, kvm_obstacle

__all__ = ["Condition", "Symptom", "examine"]

# A trimmed build tree with its objects takes 1.5 GB, the unpacked source 1.7 GB, Debian's kernels 0.5 GB.
ROOM_MIB = 6 << 10
GUEST_MIB = 1 << 10


class Condition(Enum):
    """How much a symptom matters."""

    GOOD = "good"
    LACKING = "lacking"
    """Something does not work without it."""
    NOTE = "note"
    """Worth knowing; nothing stops working."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing looked at."""

    what: str
    condition: Condition
    seen: str
    mend: str = ""
    """The command that mends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tool:
    program: str
    package: str
    purpose: str


# The kernel builds' are those of harness.build.toolchain.require_programs; a test holds the two together.
_TOOLS = (
    _Tool(program="sh", package="dash", purpose="starting guests and builds"),
    _Tool(program="setpriv", package="util-linux", purpose="guests that die with us"),
    _Tool(program="apt-get", package="apt", purpose="fetching Debian's kernels"),
    _Tool(program="dpkg-deb", package="dpkg", purpose="unpacking them"),
    _Tool(program="depmod", package="kmod", purpose="modules in the guest"),
    _Tool(program="mke2fs", package="e2fsprogs", purpose="disks for the block check"),
    _Tool(program="e2fsck", package="e2fsprogs", purpose="judging them"),
    _Tool(program="debugfs", package="e2fsprogs", purpose="reading them back"),
    _Tool(program="mkfs.xfs", package="xfsprogs", purpose="disks for the check of storvsc"),
    _Tool(program="xfs_repair", package="xfsprogs", purpose="judging them"),
    _Tool(
        program="gcc",
        package="gcc",
        purpose="what a kernel build runs on this host; QEMU's plugin of `granule bench`",
    ),
    _Tool(program="make", package="make", purpose="building kernels"),
    _Tool(program="flex", package="flex", purpose="building kernels"),
    _Tool(program="bison", package="bison", purpose="building kernels"),
    _Tool(program="bc", package="bc", purpose="building kernels"),
    _Tool(program="perl", package="perl", purpose="building kernels"),
    _Tool(program="tar", package="tar", purpose="unpacking kernel source"),
    _Tool(program="xz", package="xz-utils", purpose="unpacking kernel source"),
    _Tool(program="git", package="git", purpose="building commits and patch series"),
)


def examine() -> Iterator[Symptom]:
    """Look at everything, one symptom at a time."""
    yield _qemu()
    yield _kvm()
    yield _compiler()
    yield from (_tool(tool) for tool in _TOOLS)
    yield _header("openssl/opensslv.h", "libssl-dev", "kernels with signatures or certificates")
    yield _header("libelf.h", "libelf-dev", "kernels with BTF or objtool")
    yield _rpm()
    yield _ccache()
    yield _keyring()
    yield _mirror()
    yield _memory()
    yield _room()


def _there(path: Path) -> bool:
    """True where the path exists as far as we may look: not behind a directory that is closed to us."""
    try:
        return path.exists()
    except OSError:
        return False


def _install(package: str) -> str:
    return f"apt-get install {package}"


def _qemu() -> Symptom:
    try:
        qemu = Qemu.find()
    except GranuleError as error:
        return Symptom(
            what="QEMU", condition=Condition.LACKING, seen=str(error), mend=_install("qemu-system-arm")
        )
    return Symptom(what="QEMU", condition=Condition.GOOD, seen=f"{qemu.version_text} at {qemu.program}")


def _kvm() -> Symptom:
    obstacle = kvm_obstacle()
    if obstacle is None:
        return Symptom(what="KVM", condition=Condition.GOOD, seen="can be used")
    return Symptom(what="KVM", condition=Condition.NOTE, seen=f"not used: {obstacle}")


def _compiler() -> Symptom:
    try:
        toolchain = Toolchain.find()
    except GranuleError as error:
        native = platform.machine() == "aarch64"
        mend = _install("gcc libc6-dev" if native else "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
        return Symptom(what="arm64 compiler", condition=Condition.LACKING, seen=str(error), mend=mend)
    return Symptom(what="arm64 compiler", condition=Condition.GOOD, seen=toolchain.version)


def _which(program: str) -> str | None:
    # An ordinary user's PATH in Debian has no sbin, where mke2fs and depmod live.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _tool(tool: _Tool) -> Symptom:
    found = _which(tool.program)
    if found is None:
        seen = f"not found; needed for {tool.purpose}"
        return Symptom(what=tool.program, condition=Condition.LACKING, seen=seen, mend=_install(tool.package))
    return Symptom(what=tool.program, condition=Condition.GOOD, seen=found)


def _header(name: str, package: str, purpose: str) -> Symptom:
    if _there(Path("/usr/include") / name) or any(Path("/usr/include").glob(f"*-linux-gnu/{name}")):
        return Symptom(what=package, condition=Condition.GOOD, seen="installed")
    seen = f"{name} not found; needed for {purpose}"
    return Symptom(what=package, condition=Condition.LACKING, seen=seen, mend=_install(package))


def _ccache() -> Symptom:
    found = _which("ccache")
    if found is None:
        seen = "not found; a second build of the same source takes as long as the first"
        return Symptom(what="ccache", condition=Condition.NOTE, seen=seen, mend=_install("ccache"))
    return Symptom(what="ccache", condition=Condition.GOOD, seen=found)


def _rpm() -> Symptom:
    found = _which("bsdtar")
    if found is None:
        seen = "not found; kernels in .rpm packages cannot be read"
        mend = _install("libarchive-tools")
        return Symptom(what="bsdtar", condition=Condition.NOTE, seen=seen, mend=mend)
    return Symptom(what="bsdtar", condition=Condition.GOOD, seen=found)


def _keyring() -> Symptom:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not _there(keyring):
        return Symptom(
            what="Debian's keys", condition=Condition.LACKING, seen=f"{keyring} not found",
            mend=_install("debian-archive-keyring"),
        )  # fmt: skip
    return Symptom(what="Debian's keys", condition=Condition.GOOD, seen=str(keyring))


def _mirror() -> Symptom:
    try:
        mirror = host_mirror()
    except GranuleError as error:
        return Symptom(
            what="apt sources", condition=Condition.LACKING, seen=str(error),
            mend="add Debian's main to /etc/apt/sources.list.d",
        )  # fmt: skip
    # Not the whole address: it may carry a user's name and password.
    host = urlsplit(mirror.repo_uri).hostname or mirror.repo_uri.partition(":")[0]
    seen = f"Debian's main ({mirror.release}) at {host}; not contacted"
    return Symptom(what="apt sources", condition=Condition.GOOD, seen=seen)


def _memory() -> Symptom:
    free_mib = available_mib()
    condition = Condition.GOOD if free_mib >= GUEST_MIB else Condition.LACKING
    mend = "" if condition is Condition.GOOD else "end something that uses memory"
    return Symptom(what="memory", condition=condition, seen=f"{free_mib} MiB available", mend=mend)


def _room() -> Symptom:
    root = default_root()
    place = next(path for path in (root, *root.parents) if _there(path))
    free_mib = shutil.disk_usage(place).free >> 20
    if not os.access(place, os.W_OK):
        return Symptom(
            what="cache", condition=Condition.LACKING, seen=f"{root} cannot be written",
            mend="set GRANULE_CACHE to a directory that can",
        )  # fmt: skip
    if free_mib < ROOM_MIB:
        seen = f"{free_mib} MiB free for {root}; all kernels and their builds take {ROOM_MIB} MiB"
        return Symptom(what="cache", condition=Condition.NOTE, seen=seen, mend="granule cache prune")
    return Symptom(what="cache", condition=Condition.GOOD, seen=f"{root}, {free_mib} MiB free")
