# shellcheck shell=sh
# LVM on a disk of its own, under load: volumes grow, are snapshotted, thin and encrypted, and are clean afterwards.

device=$(disk scratch)
for module in dm_mod dm_snapshot dm_thin_pool dm_crypt; do
    modprobe -q "$module" || : # built in, or missed below
done
mkdir -p /mnt/checks /mnt/snapshot
wipefs -qa "$device"

writer=
# What goes on all the while.
start_load() {
    fio --name=load --directory=/mnt/checks --size=16m --bs=16k --rw=randrw --ioengine=psync --time_based \
        --runtime=600 --verify=crc32c --verify_fatal=1 --minimal >/run/granule-load 2>&1 &
    writer=$!
}

# It is ended by its own signal, and has to have found nothing wrong.
end_load() {
    kill -INT "$writer"
    wait "$writer"
    ! grep -qi 'verify.*fail\|bad magic\|crc.*mismatch' /run/granule-load
}

same_size() {
    [ "$(blockdev --getsize64 /dev/checks/plain)" -eq "$1" ]
}

holds "a physical volume is made" pvcreate -q -f -y "$device"
holds "a volume group is made" vgcreate -q checks "$device"
holds "a logical volume is made" lvcreate -q -y -W n -L 128m -n plain checks
holds "ext4 is made on it" mkfs.ext4 -q -F /dev/checks/plain
holds "and mounted" mount /dev/checks/plain /mnt/checks
seq 1 100000 >/mnt/checks/witness
sum=$(sha256sum </mnt/checks/witness)
start_load
# In this order: a volume with a snapshot is resized only while it is inactive (lvextend(8)).
holds "the volume and its file system grow under load" lvextend -q -r -L 256m checks/plain
holds "to the size that was asked for" same_size $((256 << 20))
holds "a snapshot is taken under load" lvcreate -q -y -s -L 64m -n before checks/plain
seq 1 200000 >/mnt/checks/witness
sync
holds "the snapshot can be mounted" mount -o ro,noload /dev/checks/before /mnt/snapshot
equal "and has what was there before" "$sum" "$(sha256sum </mnt/snapshot/witness 2>&1)"
holds "it is unmounted" umount /mnt/snapshot
holds "what was written under load verifies" end_load
rm -f /mnt/checks/load*
holds "the snapshot is removed" lvremove -q -y checks/before
holds "the volume is unmounted" umount /mnt/checks
holds "and clean" e2fsck -f -n /dev/checks/plain

holds "a thin pool is made" lvcreate -q -y --type thin-pool -L 256m -Z n -n pool checks
holds "a thin volume larger than its pool is made" lvcreate -q -y -V 1g --thinpool pool -n thin checks
holds "XFS is made on it" mkfs.xfs -q -f /dev/checks/thin
holds "and mounted" mount /dev/checks/thin /mnt/checks
seq 1 100000 >/mnt/checks/witness
sync
holds "a thin snapshot is taken" lvcreate -q -y -s -n thin2 -kn checks/thin
seq 1 50000 >/mnt/checks/witness
holds "the thin snapshot can be mounted" mount -o nouuid /dev/checks/thin2 /mnt/snapshot
equal "and has what was there before" "$sum" "$(sha256sum </mnt/snapshot/witness 2>&1)"
holds "both are unmounted" umount /mnt/snapshot /mnt/checks
holds "and clean" xfs_repair -n /dev/checks/thin
holds "the snapshot too" xfs_repair -n /dev/checks/thin2

printf granule >/run/granule-key
# A key derivation that costs next to nothing: the disk is what is tried.
holds "a volume is encrypted" cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --key-file /run/granule-key /dev/checks/plain
holds "and opened" cryptsetup open --key-file /run/granule-key /dev/checks/plain secret
holds "ext4 is made on it" mkfs.ext4 -q -F /dev/mapper/secret
holds "and mounted" mount /dev/mapper/secret /mnt/checks
seq 1 100000 >/mnt/checks/witness
holds "it is unmounted" umount /mnt/checks
holds "and closed" cryptsetup close secret
holds "and opened again" cryptsetup open --key-file /run/granule-key /dev/checks/plain secret
holds "and mounted again" mount /dev/mapper/secret /mnt/checks
equal "its content is what was written" "$sum" "$(sha256sum </mnt/checks/witness 2>&1)"
holds "it is unmounted again" umount /mnt/checks
holds "and clean" e2fsck -f -n /dev/mapper/secret
holds "and closed again" cryptsetup close secret
holds "all is removed" vgremove -q -f -y checks
finish
