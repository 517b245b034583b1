# shellcheck shell=sh
# ext4 and XFS on a disk of their own keep what fio writes, with blocks below the page size and of that size.

size=$(getconf PAGE_SIZE)
device=$(disk scratch)
mkdir -p /mnt/checks

# kernels TYPE: whether it can be mounted at all.
known() {
    grep -qw "$1" /proc/filesystems || modprobe -q "$1"
}

make() {
    case $1 in
        ext4) mkfs.ext4 -q -F -b "$2" -E nodiscard "$device" ;;
        xfs) mkfs.xfs -q -f -K -b "size=$2" "$device" ;;
    esac
}

verify() {
    fio --name=checks --directory=/mnt/checks --size=8m --bs="$1" --rw=randwrite --ioengine="$2" --direct=1 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --minimal
}

judge() {
    case $1 in
        ext4) e2fsck -f -n "$device" ;;
        xfs) xfs_repair -n "$device" ;;
    esac
}

for type in ext4 xfs; do
    if ! known "$type"; then
        absent "$type" "the kernel has no $type"
        continue
    fi
    for block in $(printf '%s\n' 4096 "$size" | sort -nu); do
        holds "$type with blocks of $block bytes is made" make "$type" "$block" || continue
        holds "and mounted" mount -t "$type" "$device" /mnt/checks || continue
        holds "fio's writes of $block bytes verify" verify "$block" psync
        holds "and asynchronous ones of $size bytes" verify "$size" libaio
        holds "it is unmounted" umount /mnt/checks
        holds "and clean" judge "$type"
    done
done
finish
