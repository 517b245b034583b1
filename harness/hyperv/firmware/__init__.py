"""What firmware would leave behind, as pure functions to bytes: ACPI tables, EFI's hand-off, a device tree.

virt    addresses and interrupts of QEMU's `virt` machine
aml     the few terms of ACPI's machine language that a DSDT of ours needs
acpi    the tables
efi     the hand-off that lets Linux find them without firmware
fdt     flattened device trees
tree    the machine as a device tree, for kernels from 6.16 on
"""
