#!/bin/sh
# Makes Debian's root file system: run by the host in a micro guest that has an ext4 with the essential packages'
# files on the disk "root", and on "debs" the packages, essential ones in the directory `essential`, all others in
# `other`. The packages' own scripts run here, on arm64, so that the host needs neither root nor a way to run arm64
# programs.
#
# SOURCE_DATE_EPOCH is set: no file of the result is younger.
set -eu

disk() {
    at=$(grep -lx "$1" /sys/block/vd*/serial)
    at=${at%/serial}
    echo "/dev/${at##*/}"
}

# To the console, which the host shows when this fails.
say() {
    echo "granule: $1" >/dev/console
}

root=/mnt
modprobe ext4 2>/dev/null || : # built in, or missed in the next line
mount -t ext4 -o noatime "$(disk root)" "$root"
mkdir /debs
mount -t ext4 -o ro "$(disk debs)" /debs

# The host has unpacked the essential packages there, so that dpkg runs at all, as whatever user it runs as; dpkg
# unpacks them again, and leaves directories as it finds them.
find "$root" -xdev -exec chown -h 0:0 {} +
while read -r owner mode path; do
    chown "$owner" "$root/$path"
    chmod "$mode" "$root/$path"
done </debs/owners
mkdir -p "$root/var/lib/dpkg"
: >>"$root/var/lib/dpkg/status"
: >>"$root/var/lib/dpkg/available"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run/debs"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --bind /dev "$root/dev"
mount -t tmpfs run "$root/run"
mkdir "$root/run/debs"
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd # for bash's <(…)
mount --bind /debs "$root/run/debs"
# No package starts a service here (Debian Policy 9.3.3.1).
mkdir -p "$root/usr/sbin"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

within() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C HOME=/root \
        DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@"
}

packages() {
    # shellcheck disable=SC2016 # expanded in the chroot
    within sh -c 'exec dpkg --force-unsafe-io --force-depends "$0" "$@" /run/debs/'"$2"'/*.deb' "$1"
}

say 'installing the essential packages'
packages --install essential
say 'unpacking the others'
packages --unpack other
say 'configuring them'
within dpkg --force-unsafe-io --configure -a
audit=$(within dpkg --audit)
[ -z "$audit" ] || {
    echo "$audit"
    exit 1
}

say 'finishing'
# What each guest has of its own is made in the guest.
rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" \
    "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n' >"$root/etc/hosts"
: >"$root/etc/fstab" # the initramfs mounts the root, wherever it is
: >"$root/etc/resolv.conf"
rm -rf "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/cache/ldconfig/* "$root"/var/cache/apt/*.bin \
    "$root/var/log/journal" "$root/var/lib/dpkg/status-old" "$root/var/lib/dpkg/diversions-old"
within systemctl mask --quiet \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    xfs_scrub_all.timer e2scrub_reap.service getty@tty1.service serial-getty@ttyAMA0.service systemd-pcrlock-make-policy.service
within systemctl disable --quiet ssh.service ssh.socket
# shellcheck disable=SC2016 # dpkg's own
within dpkg-query -W -f 'granule-package ${Package} ${Version} ${Architecture}\n'

within find / -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
umount "$root/run/debs" "$root/run" "$root/dev" "$root/sys" "$root/proc" /debs
sync
fstrim "$root" 2>/dev/null || : # the image is as good with what was deleted in it, and larger
umount "$root"
say 'done'
