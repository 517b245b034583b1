"""The guests whose root is on a disk, as the matrix asks for them: initramfs, disks and words for a kernel."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from harness.build.guest import MicroGuest
from harness.cache import Cache
from harness.errors import UsageError
from harness.build.initramfs import Entry
from harness.guests.base import ROOT_LABEL, BaseImage, DebianBase
from harness.guests.image import AUTO, OwnDisk
from harness.guests.volume import ROOT_VOLUME, VolumeImage, lvm_entries, volume_image
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.store import KernelStore
from harness.qemu.probe import Qemu
from harness.spec import Disk, DiskMode, GuestKind

__all__ = ["SCRATCH", "DiskGuests", "OnDisk"]

BUILT_UNDER = "debian-4k"
"""The kernel that they are made under: packaged, so soon had. Its page size does not matter to the result."""

SCRATCH = "scratch"
"""Serial of an empty disk beside the root, for checks that make file systems and volumes."""
SCRATCH_BYTES = 2 << 30
# Nothing of systemd's on the console, which is the kernel's, unless a unit fails. A systemd that crashes would else
# stop without a word to anybody; so it ends the guest (-no-reboot).
WORDS = ("systemd.show_status=error", "systemd.log_level=notice", "systemd.crash_reboot=yes", "rw")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """What a guest on a disk takes in place of the micro guest's."""

    initrd: Path
    disks: tuple[Disk, ...]
    """The root first."""
    words: tuple[str, ...]
    """Of the kernel's command line."""


class DiskGuests:
    """Distribution guests, made when first asked for.

    Arguments: `store`, which has the kernel that they are made under; `offline`, take them from the cache only;
    `refresh`, make them of the archive's newest packages; `own`, a disk of the user's, which is a guest too;
    `progress`, told of what is fetched and made.
    """

    def __init__(
        self,
        cache: Cache,
        micro: MicroGuest,
        qemu: Qemu,
        store: KernelStore,
        *,
        offline: bool = False,
        refresh: bool = False,
        own: OwnDisk | None = None,
        progress: Progress = quiet,
    ) -> None:
        self._cache = cache
        self._micro = micro
        self._qemu = qemu
        self._store = store
        self._refresh = refresh
        self._own = own
        self._progress = progress
        self._debian = DebianBase(cache, micro, offline=offline, progress=progress)

    def _builder(self) -> Kernel:
        return self._store.get(BUILT_UNDER)

    @functools.cached_property
    def base(self) -> BaseImage:
        """Debian's base image; raises InfraError when it cannot be had."""
        return self._debian.get(self._builder, self._qemu, refresh=self._refresh)

    @property
    def packages(self) -> int:
        """How many there are in the base image."""
        return len(self.base.packages.splitlines())

    def image(self, guest: GuestKind) -> BaseImage | VolumeImage:
        """The root of a guest of that kind; raises InfraError when it cannot be had."""
        return self.volume if guest is GuestKind.DEBIAN_LVM else self.base

    def on_disk(self, guest: GuestKind, kernel: Kernel) -> OnDisk:
        """What a guest of that kind takes with a kernel; raises InfraError when it cannot be had."""
        if guest is GuestKind.IMAGE:
            return self._on_own_disk(kernel)
        image = self.image(guest)
        entries: tuple[Entry, ...] = ()
        where = f"LABEL={ROOT_LABEL}"
        if isinstance(image, VolumeImage):
            where, entries = ROOT_VOLUME, lvm_entries(image.lvm.read_bytes())
        root = Disk(path=image.path, serial="root", mode=DiskMode.OVERLAY, identity=image.key)
        return OnDisk(
            initrd=self._micro.initramfs(kernel, on_disk=entries),
            disks=(root, self._scratch),
            words=(f"granule.root={where}", *WORDS),
        )

    def _on_own_disk(self, kernel: Kernel) -> OnDisk:
        if self._own is None:
            raise UsageError("--guest image is a disk image of yours: say which, with --disk FILE")
        # Only Debian's own LVM is at hand to look into volume groups with.
        by_volume = self._own.root == AUTO or self._own.root.startswith("/dev/")
        entries = lvm_entries(self.volume.lvm.read_bytes()) if by_volume else ()
        return OnDisk(
            initrd=self._micro.initramfs(kernel, on_disk=entries),
            disks=(self._own.disk, self._scratch),
            words=(f"granule.root={self._own.root}", *WORDS, *self._own.words),
        )

    @functools.cached_property
    def volume(self) -> VolumeImage:
        """Debian's root on a logical volume; raises InfraError when it cannot be had."""
        words = " ".join((f"granule.root=LABEL={ROOT_LABEL}", *WORDS))
        return volume_image(
            self._cache, self._micro, self.base, self._builder(), self._qemu, words, self._progress
        )

    @functools.cached_property
    def _scratch(self) -> Disk:
        def build(directory: Path) -> None:
            with (directory / "disk.img").open("wb") as file:
                file.truncate(SCRATCH_BYTES)

        key = f"empty-{SCRATCH_BYTES}-v1"
        path = self._cache.make("disks", key, build, describe="an empty disk") / "disk.img"
        return Disk(path=path, serial=SCRATCH, mode=DiskMode.OVERLAY, identity=key)
