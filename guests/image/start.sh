# shellcheck shell=sh
# Starts the agent from the seed disk, in a user's image that has booted by itself: sh /where/it/is/start.sh.
# Its line to the host is a virtio port; systemd keeps it, so that it outlives whoever ran this.
set -eu
if systemctl is-active --quiet granule-agent; then exit 0; fi # systemd's credentials were first
seed=$(dirname "$0")
mkdir -p /run/granule
# /run itself may forbid to run what is in it, as Debian's initramfs mounts it.
mount -t tmpfs -o mode=755,nosuid,nodev granule /run/granule
cp "$seed/granule-agent" /run/granule/agent
chmod 755 /run/granule/agent
if command -v chcon >/dev/null; then
    chcon -t bin_t /run/granule/agent 2>/dev/null || : # without SELinux there is nothing to label
fi
exec systemd-run --quiet --unit=granule-agent --property=Restart=always --property=RestartSec=1 \
    --property=DefaultDependencies=no --working-directory=/root --setenv=HOME=/root \
    /run/granule/agent /dev/virtio-ports/granule
