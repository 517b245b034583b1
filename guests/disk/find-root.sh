# shellcheck shell=sh
# Functions of root.sh beside it: what lies on the disks, and which of it is the root that is wanted.

root_wanted() {
    tr ' ' '\n' </proc/cmdline | sed -n 's/^granule\.root=//p' | tail -n 1
}

# Volume groups are looked for only when the root is in one. There is no udev yet to make its nodes.
find_root() {
    case $1 in
        auto)
            activate vgchange
            only_root
            ;;
        /dev/*/*)
            activate lvchange "${1#/dev/}"
            [ -b "$1" ] && mapped "$(readlink -f "$1")"
            ;;
        *) findfs "$1" 2>/dev/null ;;
    esac
}

activate() {
    command=$1
    shift
    lvm "$command" --activate y --noudevsync --quiet --config \
        'activation { udev_sync = 0 udev_rules = 0 } devices { use_devicesfile = 0 }
         backup { backup = 0 archive = 0 } global { locking_type = 1 }' \
        "$@" >/run/lvm.said 2>&1
}

# bytes DEVICE OFFSET COUNT: what is there, without its zeros.
bytes() {
    dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | tr -d '\0'
}

# kind DEVICE: the kind of file system or the like on it, and its label, by where each keeps its magic number
# (Linux fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h, include/uapi/linux/btrfs_tree.h; LUKS and LVM on-disk formats).
kind() {
    case $(bytes "$1" 0 4) in
        XFSB) echo "xfs $(bytes "$1" 108 12)" ;;
        LUKS) echo crypto_LUKS ;;
        *)
            if [ "$(bytes "$1" 1080 2)" = "$(printf '\123\357')" ]; then
                echo "ext4 $(bytes "$1" 1144 16)"
            elif [ "$(bytes "$1" 65600 8)" = _BHRfS_M ]; then
                echo btrfs
            elif [ "$(bytes "$1" 512 8)" = LABELONE ]; then
                echo LVM2_member
            fi
            ;;
    esac
}

# Links on a disk are relative to its own root, so that a link is as good as what it leads to.
there() {
    [ -e "/run/look/$1" ] || [ -L "/run/look/$1" ]
}

devices() {
    for at in /sys/class/block/*; do
        [ -b "/dev/${at##*/}" ] && echo "/dev/${at##*/}"
    done
}

# The one file system among all that are here which is a root: it has an init, and says what system it is.
only_root() {
    found=
    mkdir -p /run/look
    for device in $(devices); do
        case $(kind "$device") in ext4* | xfs* | btrfs*) ;; *) continue ;; esac
        mount -o ro "$device" /run/look 2>/dev/null || continue
        if there sbin/init && there etc/os-release; then
            found="$found $device"
        fi
        umount /run/look
    done
    # shellcheck disable=SC2086 # device nodes have no blanks in their names
    set -- $found
    [ "$#" -le 1 ] || no_root "there are several: $*; say which, by its label, its UUID or its volume"
    [ "$#" -eq 1 ] || return
    case $1 in
        /dev/dm-*) mapped "/dev/mapper/$(cat "/sys/block/${1#/dev/}/dm/name")" ;;
        *) echo "$1" ;;
    esac
}

# mapped /dev/mapper/NAME: that name, made a link to the kernel's own node, as udev would have it. What looks a
# volume up among the mounts (lvextend, xfs_growfs) goes by this name and where it leads.
mapped() {
    at=$(grep -lx "${1##*/}" /sys/block/dm-*/dm/name) || return
    at=${at%/dm/name}
    ln -sf "../${at##*/}" "$1" && echo "$1"
}

say() {
    echo "granule: $1" >/dev/console
}

no_root() {
    say "no root: $1"
    cat /run/lvm.said 2>/dev/null >/dev/console
    say "block devices here: $(for device in $(devices); do echo "$device $(kind "$device");"; done | tr '\n' ' ')"
    poweroff -f
}
