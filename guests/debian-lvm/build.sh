#!/bin/sh
# Puts Debian's root on a logical volume: run by the host in the Debian guest, which has the pristine root again on
# the disk "source" and an empty one, "target". XFS, as distributions with LVM by default have it.
set -eu

disk() {
    at=$(grep -lx "$1" /sys/block/vd*/serial)
    at=${at%/serial}
    echo "/dev/${at##*/}"
}

modprobe -q xfs || : # built in, or missed below
mkdir -p /mnt/source /mnt/target
mount -t ext4 -o ro,noload "$(disk source)" /mnt/source
pvcreate -q -y "$(disk target)"
vgcreate -q granule "$(disk target)"
# The rest of the group is for snapshots and growth.
lvcreate -q -y -W n -l 75%VG -n root granule
mkfs.xfs -q -K -L granule-lvm /dev/granule/root
mount -t xfs /dev/granule/root /mnt/target
cp -a /mnt/source/. /mnt/target/
umount /mnt/source /mnt/target
xfs_repair -n /dev/granule/root
vgchange -q -a n granule
sync
