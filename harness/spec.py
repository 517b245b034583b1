"""The frozen values that say what to run: page size, accelerator, disks, the machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from harness.determinism.conditions import Conditions
from harness.errors import UsageError

__all__ = [
    "Accel",
    "Disk",
    "DiskMode",
    "Firmware",
    "GuestKind",
    "Hyperv",
    "ImageFormat",
    "MachineSpec",
    "PageSize",
    "Platform",
    "Uefi",
    "Wire",
]


class PageSize(Enum):
    """A translation granule of VMSAv8-64 (Arm ARM DDI 0487, D8.2); the value is log2 of its bytes."""

    K4 = 12
    K16 = 14
    K64 = 16

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return 1 << self.value

    @property
    def token(self) -> str:
        """As `arm64.pagesize=` and our options spell it: 4k, 16k, 64k."""
        return f"{self.bytes >> 10}k"

    @property
    def label(self) -> str:
        """As people write it: 4K, 16K, 64K."""
        return self.token.upper()

    @classmethod
    def parse(cls, text: str) -> PageSize:
        """From `16k`, `16K`, `16KiB` or `16384`; raises UsageError naming the three sizes there are."""
        plain = text.strip().lower().removesuffix("ib").removesuffix("b")
        for size in cls:
            if plain in (size.token, str(size.bytes)):
                return size
        raise UsageError(f"'{text}' is not a page size of arm64: use 4k, 16k or 64k")

    @classmethod
    def of_bytes(cls, size_bytes: int) -> PageSize | None:
        """The granule of that many bytes, or None when there is none."""
        return next((size for size in cls if size.bytes == size_bytes), None)


class Accel(Enum):
    """How QEMU executes guest code; AUTO becomes one of the others when the host is probed."""

    AUTO = "auto"
    TCG = "tcg"
    KVM = "kvm"

    @property
    def is_emulation(self) -> bool:
        """True where guest instructions are translated, so that time-outs must be longer."""
        return self is Accel.TCG


class Feature(Enum):
    """What the `virt` machine has only when asked; the value is how options and ids spell it."""

    EL2 = "el2"
    MTE = "mte"

    @property
    def machine_option(self) -> str:
        """The machine's property (QEMU docs/system/arm/virt.rst)."""
        return {Feature.EL2: "virtualization=on", Feature.MTE: "mte=on"}[self]

    @classmethod
    def parse(cls, text: str) -> Feature:
        """The feature of that name; raises UsageError naming those that there are."""
        try:
            return cls(text.lower())
        except ValueError:
            known = ", ".join(feature.value for feature in cls)
            raise UsageError(f"'{text}' is not a feature of the machine; there are {known}") from None


class Platform(Enum):
    """What a kernel finds itself on; the value is how options and ids spell it."""

    VIRT = "virt"
    """QEMU's `virt` machine, as it is."""
    HYPERV = "hyperv"
    """The same with an EL2 monitor and the host's side of VMBus: see docs/hyperv.md."""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform of that name; raises UsageError naming those that there are."""
        try:
            return cls(text.lower())
        except ValueError:
            known = ", ".join(platform.value for platform in cls)
            raise UsageError(f"'{text}' is not a platform; there are {known}") from None


class GuestKind(Enum):
    """The userspace that a kernel starts; the value is how options and ids spell it."""

    MICRO = "micro"
    """busybox and our programs, in RAM."""
    DEBIAN = "debian"
    """Debian with systemd, its root an ext4 on a disk."""
    DEBIAN_LVM = "debian-lvm"
    """The same, its root an XFS on a logical volume."""
    IMAGE = "image"
    """Whatever the disk image that the user gives has on it."""

    @property
    def is_on_disk(self) -> bool:
        """True where the root is on a disk, and the initramfs only finds it."""
        return self is not GuestKind.MICRO

    @property
    def is_debian(self) -> bool:
        """True where granule made the image, and so knows what is in it."""
        return self in (GuestKind.DEBIAN, GuestKind.DEBIAN_LVM)

    @property
    def memory_mib(self) -> int:
        """RAM of an ordinary guest: the micro guest's checks say themselves what they need."""
        return 1024 if self.is_on_disk else 0

    @classmethod
    def parse(cls, text: str) -> GuestKind:
        """The guest of that name; raises UsageError naming those that there are."""
        try:
            return cls(text.lower())
        except ValueError:
            known = ", ".join(guest.value for guest in cls)
            raise UsageError(f"'{text}' is not a guest; there are {known}") from None


class Firmware(Enum):
    """How a kernel learns of its machine."""

    ACPI = "acpi"
    DEVICE_TREE = "dt"


class DiskMode(Enum):
    """What becomes of what a guest writes to a disk; the image itself is left alone but by DIRECT."""

    COPY = "copy"
    """A copy in memory, made before the guest starts, which the host can look into afterwards."""
    OVERLAY = "overlay"
    """A qcow2 layer above the image, in a file without a name: for images too large to copy."""
    DIRECT = "direct"
    """The image, without regard to a crash of the host: for what is being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uefi:
    """What starts a machine whose kernel is on one of its disks."""

    firmware: Path
    """Finds a boot loader by its file name (UEFI 2.10, 3.5.1.1), having no variables that name one."""
    oem_strings: tuple[str, ...] = ()
    """SMBIOS type 11, in which systemd looks for credentials (systemd.system-credentials(7))."""


class ImageFormat(Enum):
    """What kind of file a disk image is; the value is the name of QEMU's block driver."""

    RAW = "raw"
    QCOW2 = "qcow2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A raw disk image; `serial` is how the guest tells it from the others."""

    path: Path
    serial: str
    read_only: bool = False
    """Behind virtio-blk."""
    mode: DiskMode = DiskMode.COPY
    """Behind virtio-blk."""
    format: ImageFormat = ImageFormat.RAW
    """Anything but RAW needs an overlay."""
    size_bytes: int | None = None
    """Of the disk that the guest sees; None: as large as the file."""
    identity: str = ""
    """Stands for the image's content in a template's key, where whoever made it knows it; else it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperv:
    """What a machine has in addition for its kernel to believe that it is on Hyper-V."""

    monitor: Path
    """The EL2 monitor: `harness.hyperv.monitor.build_monitor`."""
    firmware: Firmware = Firmware.ACPI
    """Kernels before 6.16 recognise Hyper-V by ACPI only."""
    vmbus: tuple[int, int] = (5, 3)
    """The newest version of VMBus that the host agrees to; kernels ask for older ones then."""
    disks: tuple[Disk, ...] = ()
    """Behind storvsc, each with a controller of its own."""
    balloon: bool = False
    """With dynamic memory: the guest tells how much it needs, and gives pages up."""
    network: bool = False
    """With an adapter of netvsc's, and the host of harness.hyperv.net at its other end."""
    page_size: PageSize | None = None
    """The kernel's, where what crosses the wire is to be judged by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A virtio-net card on QEMU's user network, cut off from the host's (`restrict=on`).

    `echo` gives the guest one peer, 10.0.2.100 port 7, whose bytes reach `Machine.wire`.
    """

    echo: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """All that shapes one QEMU process, and nothing else: equal specs give equal command lines."""

    kernel: Path | None = None
    """Uncompressed arm64 Image."""
    initrd: Path | None = None
    cmdline: str = ""
    uefi: Uefi | None = None
    """In place of kernel, initrd and command line."""
    cpu: str = "neoverse-n1"
    """QEMU's `-cpu` argument."""
    accel: Accel = Accel.TCG
    vcpus: int = 2
    memory_mib: int = 384
    disks: tuple[Disk, ...] = ()
    wire: Wire | None = None
    features: tuple[Feature, ...] = ()
    its: bool = True
    """With the GIC's interrupt translation service, whose tables a kernel leaves to the next one."""
    exact: Conditions | None = None
    """Under these conditions the run repeats: TCG only, without disks and wire."""
    hyperv: Hyperv | None = None
    """TCG only: the monitor needs EL2 for itself."""
    plugin: Path | None = None
    """TCG only: a plugin that QEMU loads, which writes to the descriptor that it is given as `out`."""

    @property
    def every_disk(self) -> tuple[Disk, ...]:
        """Those of whatever bus."""
        return self.disks + (self.hyperv.disks if self.hyperv is not None else ())

    @property
    def direct(self) -> tuple[Path, Path]:
        """Kernel and initrd; raises UsageError for a machine whose firmware finds them."""
        if self.kernel is None or self.initrd is None:
            raise UsageError("this machine starts by its firmware, and not with a kernel of the host's")
        return self.kernel, self.initrd

    @property
    def platform(self) -> Platform:
        """What the kernel finds itself on."""
        return Platform.VIRT if self.hyperv is None else Platform.HYPERV
