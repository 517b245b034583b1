"""A kernel file of the user's, or a kernel tree that has been built, as a Kernel."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.combine import members_of_file, releases
from harness.kernels.copied import copied, shown
from harness.kernels.kbuild.vermagic import modules_release
from harness.kernels.kernel import Kernel
from harness.kernels.record import sha256_of
from harness.linux.image import boot_time_page_size, linux_banner, linux_release, read_image
from harness.linux.kconfig import read_config
from harness.linux.unpacking import Compression, unpacked

__all__ = ["Beside", "kernel_from_file", "kernel_from_tree"]

_IN_TREE = ("Image", "vmlinuz.efi", "Image.gz")
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a user gives beside a kernel file."""

    config: Path | None = None
    modules: Path | None = None
    initrd: Path | None = None
    vmlinux: Path | None = None
    cmdline: str = ""


def kernel_from_file(cache: Cache, path: Path, beside: Beside | None = None) -> Kernel:
    """The Kernel in a file: Image, Image.gz or EFI zboot, copied into the cache, the latter two unpacked.

    The page size comes from the header, the release from the banner, the configuration from the Image itself
    (IKCONFIG) unless given. A combined Image has members, with what their own Images say. Raises UsageError
    naming what is wrong with a file.
    """
    beside = beside or Beside()
    path = path.absolute()
    directory = copied(cache, path)
    image = directory / "Image"
    members = members_of_file(cache, image)
    if members:
        _refuse_beside(path, beside, members)
    banner = linux_banner(image)
    release = linux_release(banner) if banner else _UNKNOWN
    if members:
        release = releases(members)
    config = beside.config
    if config is not None:
        read_config(config)
    elif (directory / "config").exists() and not members:
        config = directory / "config"
    if beside.vmlinux is not None:
        _check_vmlinux(beside.vmlinux)
    if beside.initrd is not None:
        _check_initrd(beside.initrd)
    if "\n" in beside.cmdline or "\0" in beside.cmdline:
        raise UsageError("the kernel command line given has a line break or NUL in it")
    return Kernel(
        name=_name(path),
        image=image,
        page_size=read_image(image).header.page_size,
        release=release,
        sha256=sha256_of(image),
        origin=f"the file {shown(path)} ({(directory / 'packing').read_text(encoding='utf-8')})",
        config=config,
        modules=None if beside.modules is None else _modules_dir(beside.modules, release),
        initrd=beside.initrd,
        vmlinux=beside.vmlinux,
        cmdline=beside.cmdline,
        is_boot_time=bool(members) or boot_time_page_size(image),
        members=members,
    )


def kernel_from_tree(cache: Cache, tree: Path, beside: Beside | None = None) -> Kernel:
    """The Kernel in a build directory: arch/arm64/boot/Image with .config and vmlinux beside it.

    Raises UsageError where nothing has been built there.
    """
    beside = beside or Beside()
    tree = tree.absolute()
    boot = tree / "arch/arm64/boot"
    try:
        image = next((boot / name for name in _IN_TREE if (boot / name).is_file()), None)
    except OSError as error:
        raise UsageError(f"the build tree {shown(tree)} cannot be read: {error.strerror}") from error
    if image is None:
        raise UsageError(
            f"{shown(tree)} is a directory without arch/arm64/boot/Image. Build it with `make ARCH=arm64 "
            "Image`, give the kernel file itself, or have granule build the tree with a kernel of the "
            "catalogue."
        )
    kernel = kernel_from_file(
        cache,
        image,
        Beside(
            config=beside.config or _if_there(tree / ".config"),
            modules=beside.modules,
            initrd=beside.initrd,
            vmlinux=beside.vmlinux or _if_there(tree / "vmlinux"),
            cmdline=beside.cmdline,
        ),
    )
    return replace(kernel, name=_name(tree), origin=f"the build tree {shown(tree)}")


def _refuse_beside(path: Path, beside: Beside, members: tuple[Kernel, ...]) -> None:
    """What belongs to one kernel cannot be given for several."""
    for option in ("modules", "config", "vmlinux"):
        if getattr(beside, option) is not None:
            names = ", ".join(member.name for member in members)
            raise UsageError(
                f"--{option} goes with one kernel, and {shown(path)} is a combined Image with {names}. Leave "
                "it out, or give the kernels one by one."
            )


def _name(path: Path) -> str:
    """A file's stem as part of a cell id: letters, digits, '.', '_' and '-'."""
    stem = path.name.removesuffix(".gz").removesuffix(".efi")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:60] or "kernel"


def _modules_dir(given: Path, release: str) -> Path:
    """The directory lib/modules/RELEASE, from itself, from lib/modules, or from INSTALL_MOD_PATH.

    Raises UsageError where there is none, or it is another kernel's: by the vermagic of its modules, which
    the guest's kernel would go by, or by its name where it has no module.
    """
    for candidate in (
        given,
        given / release,
        given / "lib/modules" / release,
        given / "usr/lib/modules" / release,
    ):
        if not _holds_modules(candidate):
            continue
        found = candidate.absolute()
        built_for = modules_release(found) or _release_named(found)
        if built_for is not None and release not in (built_for, _UNKNOWN):
            raise UsageError(
                f"the modules in {shown(found)} are for {built_for}, but the kernel is {release} and would "
                f"refuse them. Give this kernel's own lib/modules/{release}, or leave --modules out."
            )
        return found
    raise UsageError(
        f"{shown(given)} holds no modules for {release}: wanted lib/modules/{release} "
        "as `make modules_install` lays it out"
    )


def _holds_modules(directory: Path) -> bool:
    try:
        return (directory / "kernel").is_dir() or (directory / "modules.builtin").is_file()
    except OSError as error:
        raise UsageError(f"the modules in {shown(directory)} cannot be read: {error.strerror}") from error


def _release_named(directory: Path) -> str | None:
    """The release that lib/modules/RELEASE is named after; None for a name of another kind."""
    name = directory.resolve().name
    return name if re.match(r"\d+\.\d+", name) else None


def _check_vmlinux(path: Path) -> None:
    try:
        with path.open("rb") as file:
            machine = ELFFile(file)["e_machine"]
    except (OSError, ELFError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is not a vmlinux: {error or 'not an ELF file'}") from error
    if machine != "EM_AARCH64":
        raise UsageError(f"{path} is an ELF file for {machine}, not an arm64 vmlinux")


def _check_initrd(path: Path) -> None:
    """Refuse what cannot be an initramfs, or is cut short: the guest would only panic."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise UsageError(f"cannot read the initrd {path}: {error.strerror}") from error
    if not head:
        raise UsageError(f"the initrd {path} is empty")
    compressions = {b"\x1f\x8b": Compression.GZIP, b"\xfd7": Compression.XZ}
    compression = compressions.get(head[:2])
    if compression is not None:
        with unpacked(path, 0, size_bytes, compression) as stream:
            for _block in stream:
                pass
    elif head not in (b"070701", b"070702") and head[:4] not in (b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18"):
        raise UsageError(
            f"the initrd {path} is neither a cpio archive nor one compressed with gzip, xz, zstd or lz4"
        )


def _if_there(path: Path) -> Path | None:
    with suppress(OSError):
        return path if path.is_file() else None
    return None
