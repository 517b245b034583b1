#!/bin/sh
# Lets the host in by OpenSSH's own server: run in a distribution's guest by the host, with the public key that may
# log in as root as $1. Its last line is the host key, which is made here and now, so that a clone has its own.
set -eu

modprobe virtio_net 2>/dev/null || : # built in, or missed below
if command -v udevadm >/dev/null; then udevadm settle --timeout=60; fi # it may be given another name
# On Hyper-V there is another card, whatever their names are.
card=eth0
for device in /sys/class/net/*; do
    driver=$(readlink "$device/device/driver") || continue
    if [ "${driver##*/}" = virtio_net ]; then card=${device##*/}; fi
done
if command -v ip >/dev/null; then
    ip link set "$card" up
    # `replace` and not `add`: somebody may have been here before.
    ip addr replace 10.0.2.15/24 dev "$card"
else
    # An image without iproute2 has another way: QEMU's DHCP gives it the same address.
    tries=0
    until grep -qs '10\.0\.2\.15' /proc/net/fib_trie; do
        tries=$((tries + 1))
        [ "$tries" -le 60 ] || { echo "no ip program, and no address by DHCP"; exit 1; }
        sleep 1
    done
fi

mkdir -p /root/.ssh
chmod 700 /root/.ssh
echo "$1" >/root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys

# One kind of key: an emulated guest takes a minute for an RSA one.
key=/etc/ssh/ssh_host_ed25519_key
[ -s "$key" ] || ssh-keygen -q -t ed25519 -N '' -C '' -f "$key"
systemctl start ssh.service 2>/dev/null || systemctl start sshd.service || {
    journalctl -b -u ssh.service -u sshd.service -n 20 --no-pager
    exit 1
}
cat "$key.pub"
