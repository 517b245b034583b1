"""Whether guest RAM has room for a kernel, its initrd and the device tree, where QEMU puts them.

Source: hw/arm/boot.c, load_aarch64_image() and arm_setup_direct_kernel_boot(); hw/arm/virt.c, create_fdt().
"""

from __future__ import annotations

from harness.errors import UsageError
from harness.linux.image import ImageHeader
from harness.spec import MachineSpec

__all__ = ["needed_mib", "refuse_small_memory"]

_MIB = 1 << 20
_KERNEL_AT = 2 * _MIB
_INITRD_AT_MOST = 128 * _MIB
_TREE_ALIGN = 2 * _MIB
_TREE_BYTES = _MIB


def needed_mib(header: ImageHeader, initrd_bytes: int) -> int:
    """The least RAM, in MiB, that holds all three; what the kernel needs to run comes on top."""
    kernel_end = _KERNEL_AT + header.text_offset + header.image_size_bytes
    memory_mib = (kernel_end + initrd_bytes + _TREE_BYTES) // _MIB
    while not _holds(memory_mib * _MIB, kernel_end, initrd_bytes):
        memory_mib += 1
    return memory_mib


def refuse_small_memory(spec: MachineSpec) -> None:
    """Raise UsageError where QEMU, or a selector in the kernel, would refuse the guest for want of RAM."""
    kernel, initrd = spec.direct
    with kernel.open("rb") as file:
        header = ImageHeader.parse(file.read(64))
    if header is None:
        return
    needed = needed_mib(header, initrd.stat().st_size)
    if spec.memory_mib < needed:
        raise UsageError(
            f"{spec.memory_mib} MiB of guest memory are too few for this kernel: it takes "
            f"{header.image_size_bytes / _MIB:.0f} MiB until it runs, and with its initrd and device tree "
            f"{needed} MiB. Give the guest more (--memory), or a smaller kernel."
        )


def _holds(memory_bytes: int, kernel_end: int, initrd_bytes: int) -> bool:
    initrd_at = max(min(memory_bytes // 2, _INITRD_AT_MOST), kernel_end)
    initrd_end = initrd_at + initrd_bytes
    tree_at = initrd_end + -initrd_end % _TREE_ALIGN
    return tree_at + _TREE_BYTES <= memory_bytes
