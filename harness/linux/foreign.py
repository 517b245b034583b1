"""Says in words what a file is that was given for an arm64 kernel and is not one.

Sources: the magic numbers in each format's specification; Linux Documentation/arch/x86/boot.rst,
Documentation/arch/arm/booting.rst, Documentation/arch/riscv/boot-image-header.rst.
"""

from __future__ import annotations

import struct

__all__ = ["describe_foreign"]

_ELF_MACHINES = {3: "x86", 40: "32-bit arm", 62: "x86-64", 243: "RISC-V", 258: "LoongArch"}
_EM_AARCH64 = 183

_FOREIGN = (
    (0x202, b"HdrS", "an x86 bzImage"),
    (0x24, b"\x18\x28\x6f\x01", "a 32-bit arm zImage"),
    (56, b"RSC\x05", "a RISC-V Image"),
    (0, b"\x27\x05\x19\x56", "a U-Boot uImage; unwrap the kernel in it"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or U-Boot FIT image"),
    (
        0,
        b"!<arch>\ndebian",
        "a Debian package (.deb); unpack it with `dpkg-deb -x` and give its boot/vmlinuz-*",
    ),
    (0, b"!<arch>\n", "an ar archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package; unpack it and give its boot/vmlinuz-*"),
    (0, b"\x28\xb5\x2f\xfd", "a bare zstd file; unpack it with `zstd -d` first"),
    (0, b"\xfd7zXZ\0", "a bare xz file; unpack it with `xz -d` first"),
    (0, b"BZh", "a bzip2 file; unpack it first"),
    (0, b"\x02\x21\x4c\x18", "a bare lz4 file; unpack it with `lz4 -d` first"),
    (0, b"\x04\x22\x4d\x18", "a bare lz4 file; unpack it with `lz4 -d` first"),
    (0, b"070701", "a cpio archive, perhaps an initramfs"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (257, b"ustar", "a tar archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"#!", "a script"),
)


def describe_foreign(head: bytes) -> str | None:
    """Say in words what kind of file begins with `head`, or None for a kind we do not know."""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        (machine,) = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)
        if machine == _EM_AARCH64:
            return (
                "an ELF file for arm64 (vmlinux?), which QEMU does not boot as Linux; "
                "use arch/arm64/boot/Image of its build tree"
            )
        return f"an ELF file for {_ELF_MACHINES.get(machine, f'machine {machine}')}, not arm64"
    for at, magic, what in _FOREIGN:
        if head[at : at + len(magic)] == magic:
            return what
    if head[:2] == b"MZ":
        return "a PE (EFI or Windows) program without an arm64 Image header"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:256]):
        return "a text file"
    return None
