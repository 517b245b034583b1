# shellcheck shell=sh
# The root is an XFS on a logical volume: it is snapshotted and grown while it is in use, and is clean.

mkdir -p /mnt/snapshot
equal "the root's file system" xfs "$(findmnt -n -o FSTYPE /)"
volume=$(lvs --noheadings --separator : -o lv_kernel_major,lv_kernel_minor granule/root | tr -d ' ')
equal "the root's device is the volume" "$volume" "$(findmnt -n -o MAJ:MIN / | tr -d ' ')"
modprobe -q dm_snapshot || :
fio --name=load --directory=/var/tmp --size=16m --bs=16k --rw=randrw --ioengine=psync --time_based --runtime=600 \
    --verify=crc32c --minimal >/run/granule-load 2>&1 &
writer=$!
seq 1 100000 >/var/tmp/witness
sum=$(sha256sum </var/tmp/witness)
sync
# In this order: a volume with a snapshot is resized only while it is inactive (lvextend(8)).
before=$(blockdev --getsize64 /dev/granule/root)
holds "the root grows under load" lvextend -q -r -L +128m granule/root
equal "by what was asked for" $((before + (128 << 20))) "$(blockdev --getsize64 /dev/granule/root)"
holds "a snapshot of the root is taken under load" lvcreate -q -y -s -L 256m -n before granule/root
seq 1 10 >/var/tmp/witness
kill -INT "$writer"
wait "$writer"
# Mounted and unmounted once, so that its log is played back: it was in use when it was taken.
holds "the snapshot can be mounted" mount -o nouuid /dev/granule/before /mnt/snapshot
equal "and has what was there before" "$sum" "$(sha256sum </mnt/snapshot/var/tmp/witness 2>&1)"
holds "it is unmounted" umount /mnt/snapshot
holds "and clean" xfs_repair -n /dev/granule/before
holds "it is removed" lvremove -q -y granule/before
rm -f /var/tmp/witness /var/tmp/load*
finish
