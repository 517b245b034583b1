"""Hyper-V without Hyper-V: the host's side of VMBus, for guests of stock QEMU.

    violation   what breaks a rule, as a value
    memory      guest memory that both sides write, every access checked
    wire/       structures as they go over the wire
    gpadl       guest pages by number
    ring        a channel's two rings
    channel     a channel, and what a device is
    synic, hypercall, vmbus    interrupts and messages, calls, the bus
    wirelog     what a checker of the wire sees
    scsi/       a SCSI disk
    devices/    the devices
    peripherals those of a machine's spec
    monitor, smccc, host       the EL2 monitor, its calls, and the thread that answers them
    firmware/   ACPI tables, EFI hand-off, device tree

May import harness.memory, harness.build and what is below; knows nothing of QEMU's process.
"""
