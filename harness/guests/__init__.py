"""Distribution guests: userspaces of somebody else's, on disks, under the kernels that are tested.

debs     Debian's packages as a guest can use them: unpacked as far as the host can
base     the base image of a guest, made once for the same packages and recipe
elf      which programs a kernel with large pages cannot map
volume   the base image's root on a logical volume
disk     what the matrix asks for: initramfs, disks and words for a kernel
"""

from harness.guests.disk import DiskGuests, OnDisk
from harness.guests.elf import ElfScan

__all__ = ["DiskGuests", "ElfScan", "OnDisk"]
