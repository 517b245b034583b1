#!/bin/sh
# Starts an SSH server in a micro guest that is up: run there by the host, with the public key that may log in
# as $1, after it has put sshd.tar beside the server's directory. Its last line is the host key.
#
# The server comes with its own C library and loader and uses no others: /lib may hold whatever the user wants.
set -eu
home=/run/granule-sshd
mkdir -p "$home/keys"
cd "$home"
tar xf ../granule-sshd.tar
rm ../granule-sshd.tar

# The name is no path: dropbear runs itself again for each connection, from where it finds itself by its name
# (execfd in its src/svr-main.c), and would then be run with the guest's libraries.
start() {
    program=$1
    shift
    "$home/lib/ld-linux-aarch64.so.1" --library-path "$home/lib" --argv0 "granule-$program" \
        "$home/$program" "$@"
}

modprobe virtio_net 2>/dev/null || : # built in, or missed in the next line
# On Hyper-V another card may have come first.
card=eth0
for device in /sys/class/net/*; do
    driver=$(readlink "$device/device/driver") || continue
    if [ "${driver##*/}" = virtio_net ]; then card=${device##*/}; fi
done
ip link set "$card" up
# `replace` and not `add`: somebody may have been here before.
ip addr replace 10.0.2.15/24 dev "$card"

echo "$1" >keys/authorized_keys
# It trusts no key that another user could have put there; the root of an initramfs is writable to all.
chmod go-w / keys keys/authorized_keys

# One that was started before, for another key, makes room; whoever is logged in there stays.
if [ -f pid ]; then
    before=$(cat pid)
    kill "$before" 2>/dev/null || :
    tries=0
    while kill -0 "$before" 2>/dev/null && [ "$tries" -lt 500 ]; do
        tries=$((tries + 1))
        usleep 10000
    done
fi
rm -f pid host_key host_key.pub

# In here and now, so that it is of this guest's random numbers: a clone has some of its own.
trap 'cat log' EXIT
start dropbearkey -t ed25519 -f host_key >log 2>&1
# Keys only, no forwarding; it returns when it listens, and has / for its directory then.
start dropbear -s -j -k -E -p 22 -P "$home/pid" -r "$home/host_key" -D "$home/keys" 2>>log
trap - EXIT
cat host_key.pub
