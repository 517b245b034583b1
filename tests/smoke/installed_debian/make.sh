#!/bin/sh
# Makes a disk as a distribution's installer would, with Debian's own tools: run as root in a Debian guest that has
# an empty disk "target" and the packages on the disk "debs". What comes out has its own GRUB and kernel, an EFI
# system partition, /boot on ext4, and the root on XFS in a logical volume. Nothing of granule's is in it.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

disk() {
    at=$(grep -lx "$1" /sys/block/vd*/serial)
    at=${at%/serial}
    echo "/dev/${at##*/}"
}

# What is mounted here is for nobody else: a service's view of it would hold it when it is unmounted.
mount --make-rprivate /
target=$(disk target)
mkdir -p /repository /debs
mount -o ro "$(disk debs)" /debs
ln -s /debs /repository/debs
for deb in /debs/*.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: debs/%s\nSize: %s\nSHA256: %s\n\n' \
        "${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done >/repository/Packages
# mmdebstrap takes what is essential in the suite of that name.
cat >/repository/Release <<RELEASE
Suite: trixie
Codename: trixie
Architectures: arm64
SHA256:
 $(sha256sum </repository/Packages | cut -d ' ' -f 1) $(stat -c %s /repository/Packages) Packages
RELEASE
source='deb [trusted=yes] copy:/repository ./' # copied: dpkg in the new system does not see this one's files
echo "$source" >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
apt-get -q update
apt-get -qy --no-install-recommends install dosfstools fdisk grub-common mmdebstrap

echo 'making partitions'
sfdisk --quiet "$target" <<'PARTITIONS'
label: gpt
size=64M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
size=512M, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
type=E6D6D379-F507-44C2-A23C-238F2A3DF928
PARTITIONS
udevadm settle
mkfs.vfat -n ESP "${target}1"
mkfs.ext4 -q -L boot "${target}2"
pvcreate -q "${target}3"
vgcreate -q installed "${target}3"
lvcreate -q -y -L 256M -n swap installed
lvcreate -q -y -l 100%FREE -n root installed
udevadm settle
mkfs.xfs -q -L root /dev/installed/root
mkswap -q /dev/installed/swap
root=/mnt/installed
mkdir -p "$root"
mount /dev/installed/root "$root"
mkdir -p "$root/boot"
mount "${target}2" "$root/boot"
mkdir -p "$root/boot/efi"
mount "${target}1" "$root/boot/efi"

echo 'installing the system'
mmdebstrap --mode=root --variant=apt --dpkgopt=force-unsafe-io --skip=check/empty,cleanup/apt/lists \
    --include=openssh-server,systemd-sysv,cloud-init,lvm2,xfsprogs,udev,kmod trixie "$root" "$source"
uuid() { blkid -o value -s UUID "$1"; }
cat >"$root/etc/fstab" <<FSTAB
/dev/mapper/installed-root / xfs defaults 0 0
UUID=$(uuid "${target}2") /boot ext4 defaults 0 2
UUID=$(uuid "${target}1") /boot/efi vfat umask=0077 0 1
/dev/mapper/installed-swap none swap sw 0 0
FSTAB
echo installed >"$root/etc/hostname"
cat >"$root/etc/systemd/network/80-dhcp.network" <<'NETWORK'
[Match]
Type=ether
[Network]
DHCP=yes
NETWORK
mkdir -p "$root/etc/default/grub.d"
cat >"$root/etc/default/grub.d/serial.cfg" <<'GRUB'
GRUB_TIMEOUT=1
GRUB_TERMINAL=console
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="console=ttyAMA0"
GRUB

echo 'installing kernel and boot loader'
for directory in dev proc sys run repository debs; do
    mkdir -p "$root/$directory"
    mount --rbind "/$directory" "$root/$directory"
done
chroot "$root" apt-get -qy --no-install-recommends install linux-image-arm64 initramfs-tools grub-efi-arm64
chroot "$root" grub-install --target=arm64-efi --efi-directory=/boot/efi --removable --no-nvram
chroot "$root" update-grub
chroot "$root" systemctl --quiet enable systemd-networkd ssh
: >"$root/etc/machine-id"

for directory in debs repository run sys proc dev; do
    umount -R "$root/$directory"
done
rmdir "$root/debs" "$root/repository"
fstrim "$root" || :
umount -R "$root"
sync
echo 'the disk is made'
