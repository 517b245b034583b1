# shellcheck shell=sh
# Memory that is pushed out to swap under a limit, and read back, keeps its contents.

device=$(disk scratch)

# counted NAME: how many pages went that way so far.
counted() {
    sed -n "s/^$1 //p" /proc/vmstat
}

# Twice the memory that the unit may have, written and read back time after time.
push() {
    systemd-run --quiet --wait --pipe --collect -p MemoryMax=64M -p MemorySwapMax=256M \
        stress-ng --vm 1 --vm-bytes 128m --vm-keep --vm-method incdec --vm-ops 4 --verify --timeout 300 --quiet
}

out=$(counted pswpout)
in=$(counted pswpin)
holds "a swap area is made" mkswap -q "$device"
holds "and taken into use" swapon "$device"
holds "twice the memory that there is verifies" push
holds "pages went out" test "$(counted pswpout)" -gt "$out"
holds "and came back" test "$(counted pswpin)" -gt "$in"
holds "the swap area is given back" swapoff "$device"
note "$(($(counted pswpout) - out)) pages out, $(($(counted pswpin) - in)) pages in"
finish
