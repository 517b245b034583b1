"""How large a kernel is: on disk, compressed, and part by part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.compressed import Compressor, compressed_bytes
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.linux.image import read_image
from harness.linux.kallsyms import read_kallsyms
from harness.linux.sections import Extents, SectionSizes, extents, mismatch, section_sizes

__all__ = ["KernelSize", "belonging", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSize:
    """The sizes of one kernel, in bytes."""

    label: str
    """What reports call it: unique among those that are compared."""
    kernel: Kernel
    image_bytes: int
    """The uncompressed Image."""
    ram_bytes: int | None
    """From _text to _end in memory, by the Image header; None for kernels before v3.17."""
    compressed: dict[Compressor, int]
    sections: SectionSizes | None = None
    """By its vmlinux, where there is one."""
    extents: Extents | None = None
    """By its own symbols, where it has them."""
    unknown: str = ""
    """Why neither is known."""

    @property
    def gaps_bytes(self) -> int | None:
        """What the Image holds that is in no section: page tables made by the linker script, alignment."""
        sections = self.sections
        return None if sections is None else self.image_bytes - sections.text_bytes - sections.data_bytes


def measure(kernel: Kernel, label: str, cache: Cache, progress: Progress = quiet) -> KernelSize:
    """Measure a kernel, compressing its Image unless the cache knows the result.

    Raises UsageError where the kernel's vmlinux is another kernel's or truncated, ToolMissing, InfraError.
    """
    sections, marks, unknown = None, None, ""
    data = _content(kernel.image)
    if kernel.members:
        unknown = f"{len(kernel.members)} kernels, each with parts of its own"
    else:
        if kernel.vmlinux is not None:
            wrong = mismatch(kernel.vmlinux, data)
            if wrong:
                raise UsageError(
                    f"{kernel.vmlinux} is not what the Image of {label} was made from: {wrong}. "
                    "Build the Image again, or give the kernel file without its vmlinux."
                )
            sections = section_sizes(kernel.vmlinux)
        table = read_kallsyms(data)
        marks = extents(table) if table is not None else None
        if sections is None and marks is None:
            unknown = "no vmlinux, and no symbols of its data (CONFIG_KALLSYMS_ALL)"
    return KernelSize(
        label=label,
        kernel=kernel,
        image_bytes=len(data),
        ram_bytes=read_image(kernel.image).header.image_size_bytes or None,
        compressed={one: compressed_bytes(kernel, one, cache, progress) for one in Compressor},
        sections=sections,
        extents=marks,
        unknown=unknown,
    )


def belonging(vmlinux: Path, kernels: tuple[Kernel, ...]) -> Kernel:
    """The kernel whose Image was made from that vmlinux; raises UsageError where none was."""
    reasons = []
    for kernel in kernels:
        several = "it is several kernels in one file" if kernel.members else ""
        wrong = several or mismatch(vmlinux, _content(kernel.image))
        if not wrong:
            return kernel
        reasons.append(f"{kernel.name}: {wrong}")
    raise UsageError(f"{vmlinux} belongs to none of the kernels ({'; '.join(reasons)})")


def _content(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {image}: {error.strerror}") from error
