#!/bin/sh
# What benchmarks need of a guest, as far as its kernel has it: swap on zram, and an ext4 on a loop device.
# In /root: bench.ext4.gz. Says what could not be had; its benchmarks are then left out.
modprobe zram 2>/dev/null
if [ -b /dev/zram0 ]; then
    { echo 32M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0; } >/dev/null ||
        echo 'no swap on zram'
fi
modprobe loop 2>/dev/null
modprobe ext4 2>/dev/null
mkdir -p /mnt/ext4
gunzip /root/bench.ext4.gz && mount -t ext4 -o loop /root/bench.ext4 /mnt/ext4 || echo 'no ext4'
exit 0
