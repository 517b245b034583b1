#!/bin/sh
# Lets the host in by OpenSSH's own server: run in a distribution's guest by the host, with the public key that may
# log in as root as $1. Its last line is the host key, which is made here and now, so that a clone has its own.
set -eu

for link in /sys/class/net/*; do
    [ -e "$link/device" ] && card=${link##*/} && break
done
ip link set "$card" up
# `replace` and not `add`: somebody may have been here before.
ip addr replace 10.0.2.15/24 dev "$card"

mkdir -p /root/.ssh
chmod 700 /root/.ssh
echo "$1" >/root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys

# One kind of key: an emulated guest takes a minute for an RSA one.
key=/etc/ssh/ssh_host_ed25519_key
[ -s "$key" ] || ssh-keygen -q -t ed25519 -N '' -C '' -f "$key"
systemctl start ssh.service || {
    journalctl -b -u ssh.service -n 20 --no-pager
    exit 1
}
cat "$key.pub"
