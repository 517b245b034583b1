#!/bin/sh
# Read by the micro guest's init where the kernel's command line has granule.root=LABEL=…, UUID=…, /dev/VG/LV or
# auto: finds that root, puts granule's programs into /run, where no disk is written to, and goes on as its /sbin/init.
# $line is the guest's line to the host.

# shellcheck source=guests/disk/find-root.sh
. /etc/granule/find-root.sh

wanted=$(root_wanted)
mkdir -p /root-disk
mount -t tmpfs -o mode=755,nosuid,nodev run /run
modprobe -q sd_mod # disks behind storvsc are SCSI's, and nobody here loads drivers by what they drive
tries=0
until device=$(find_root "$wanted") && [ -n "$device" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 50 ] || no_root "$wanted was not found"
    usleep 100000
done
mount "$device" /root-disk || no_root "$wanted is $device, and could not be mounted"
# Links on the disk are relative to its own root, so that a link is as good as a program.
[ -x /root-disk/sbin/init ] || [ -L /root-disk/sbin/init ] || no_root "$wanted is $device, and has no /sbin/init"

# An image for another machine has programs that this one cannot run.
chroot /root-disk /bin/sh -c : 2>/run/chroot.said || no_root "$wanted is $device: $(cat /run/chroot.said)"

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
