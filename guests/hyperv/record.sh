#!/bin/sh
# Records what a Linux guest and its Hyper-V host say to each other, for `granule hyperv calibrate`. Run as root in
# the guest, with the name of a netvsc interface: its MTU is set 16 bytes lower and back, so that the driver closes
# and opens its channels. The connection of whoever runs this pauses for a moment.
#
#     sh record.sh eth0 >vmbus.trace
#
# With vmbus built in, its whole conversation from boot on can be had: boot with
# `trace_event=hyperv:* trace_buf_size=8M`, and run this without a name.
set -eu
interface=${1:-}
tracing=/sys/kernel/tracing
[ -d "$tracing/events/hyperv" ] || mount -t tracefs nodev "$tracing" 2>/dev/null || :
if [ ! -d "$tracing/events/hyperv" ]; then
    echo "record.sh: no $tracing/events/hyperv: the kernel has no tracing, or is not on Hyper-V" >&2
    exit 1
fi
echo "# release $(uname -r)"
echo "# page size $(getconf PAGESIZE 2>/dev/null || echo unknown)"
for device in /sys/bus/vmbus/devices/*; do
    echo "# channel $(cat "$device/id") $(cat "$device/class_id")"
done
if [ -n "$interface" ]; then
    mtu=$(cat "/sys/class/net/$interface/mtu")
    trap 'echo 0 >"$tracing/events/hyperv/enable"; ip link set "$interface" mtu "$mtu"' EXIT
    echo 1 >"$tracing/events/hyperv/enable"
    ip link set "$interface" mtu $((mtu - 16))
    ip link set "$interface" mtu "$mtu"
    sleep 1
fi
cat "$tracing/trace"
