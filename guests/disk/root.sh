#!/bin/sh
# Read by the micro guest's init where the kernel's command line has granule.root=LABEL=…, UUID=… or /dev/VG/LV:
# finds that root, puts granule's programs into /run, where no disk is written to, and goes on as its /sbin/init.
# $line is the guest's line to the host.

root_wanted() {
    tr ' ' '\n' </proc/cmdline | sed -n 's/^granule\.root=//p' | tail -n 1
}

# Volume groups are looked for only when the root is in one. There is no udev yet to make its nodes.
find_root() {
    case $1 in
        /dev/*/*)
            lvm lvchange --activate y --noudevsync --quiet --config \
                'activation { udev_sync = 0 udev_rules = 0 } devices { use_devicesfile = 0 }
                 backup { backup = 0 archive = 0 } global { locking_type = 1 }' \
                "${1#/dev/}" >/run/lvm.said 2>&1
            [ -b "$1" ] && mapped "$(readlink -f "$1")"
            ;;
        *) findfs "$1" 2>/dev/null ;;
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
    say "block devices here: $(blkid | tr '\n' ';')"
    poweroff -f
}

wanted=$(root_wanted)
mkdir -p /root-disk
mount -t tmpfs -o mode=755,nosuid,nodev run /run
tries=0
until device=$(find_root "$wanted") && [ -n "$device" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 20 ] || no_root "$wanted was not found"
    usleep 100000
done
mount "$device" /root-disk || no_root "$wanted is $device, and could not be mounted"
# Links on the disk are relative to its own root, so that a link is as good as a program.
[ -x /root-disk/sbin/init ] || [ -L /root-disk/sbin/init ] || no_root "$wanted is $device, and has no /sbin/init"

# Programs, and a unit that starts them; systemd leaves a /run alone that is mounted.
mkdir -p /run/granule/bin /run/systemd/system/sysinit.target.wants
cp /sbin/granule-agent /bin/probe /run/granule/bin/
# shellcheck disable=SC2154 # init found it
echo "LINE=$line" >/run/granule/line
cp /etc/granule/granule-agent.service /run/systemd/system/
ln -s ../granule-agent.service /run/systemd/system/sysinit.target.wants/granule-agent.service

# The modules of the kernel that runs, in place of those that the disk has, if any.
if [ -d "/lib/modules/$(uname -r)" ]; then
    mkdir -p /run/granule/modules
    mv "/lib/modules/$(uname -r)" /run/granule/modules/
    modules=/root-disk/lib/modules # whether /lib is a directory or a link to usr/lib: it leads to the same place
    [ -L /root-disk/lib ] && modules=/root-disk/usr/lib/modules
    mkdir -p "$modules" # no kernel has been installed there, perhaps
    mount --bind /run/granule/modules "$modules" || say "no place for modules on $wanted"
fi

umount /dev/pts /dev/shm /sys/kernel/debug /tmp 2>/dev/null
for mounted in dev proc sys run; do
    mount --move "/$mounted" "/root-disk/$mounted"
done
say "root on $device"
exec switch_root /root-disk /sbin/init
