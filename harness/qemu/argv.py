"""The QEMU command line, as a pure function of what is to run."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.hyperv.host import DOORBELL_SLOT
from harness.hyperv.layout import Layout
from harness.spec import Accel, DiskMode, Feature, ImageFormat, MachineSpec

__all__ = ["Lines", "qemu_argv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Numbers of the file descriptors that QEMU inherits."""

    ram: int
    """The anonymous memory file that is the guest's RAM."""
    monitor: int
    console: int
    shell: int
    """A socket; for a run that repeats, a file."""
    gdb: int
    wire: int | None = None
    """The far end of the guest's TCP peer, where the spec has a wire with an echo."""
    disks: tuple[int, ...] = field(default=())
    """One per disk of the spec, in order: where it is written."""
    below: tuple[tuple[int, ...], ...] = ()
    """For each disk that is an overlay, what lies below it: the raw image, then other layers."""
    doorbell: int | None = None
    """With Hyper-V: where vCPUs ask for the host."""
    qtest: int | None = None
    """With Hyper-V: where the host raises interrupts."""
    plugin: int | None = None
    """Where the plugin writes, if there is one."""


def qemu_argv(
    spec: MachineSpec, lines: Lines, *, program: str, sandbox: bool = True, clone: bool = False
) -> tuple[str, ...]:
    """The command line that runs `spec` with `program`, talking over `lines`.

    `sandbox`: this QEMU was built with seccomp. `clone`: it waits for a saved state, and its RAM is a private
    copy of the file. Devices are virtio-mmio: the trimmed kernels have no PCI, and Debian's have both. Those
    of a machine that starts by its firmware are on PCI.
    """
    share = "off" if clone else "on"
    return (
        program,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *(("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny") if sandbox else ()),
        *("-machine", _machine(spec)),
        *("-accel", _accel(spec)),
        *("-cpu", spec.cpu),
        *("-smp", _smp(spec)),
        *("-m", f"{spec.memory_mib}M"),
        "-object",
        f"memory-backend-file,id=ram,size={spec.memory_mib}M,share={share},mem-path=/proc/self/fd/{lines.ram}",
        *_socket("monitor", lines.monitor),
        *("-mon", "chardev=monitor,mode=control"),
        *_socket("console", lines.console),
        *("-serial", "chardev:console"),
        *_shell(spec, lines),
        *("-device", _device(spec, "serial")),
        # A port and not a console (hvc0): QEMU drops what a virtconsole says while the host is slow to read,
        # and lets a port wait (hw/char/virtio-console.c, flush_buf()).
        *("-device", "virtserialport,chardev=shell,name=granule"),
        *_socket("gdb", lines.gdb),
        *("-gdb", "chardev:gdb"),
        *_entropy(spec),
        *_disks(spec, lines),
        *_wire(spec, lines),
        *_hyperv(lines),
        *(("-incoming", "defer") if clone else _boot(spec)),
        *(spec.exact.qemu_words if spec.exact is not None else ()),
        *(("-plugin", f"{spec.plugin},out={lines.plugin}") if spec.plugin is not None else ()),
    )


def _boot(spec: MachineSpec) -> tuple[str, ...]:
    """What a clone goes without: QEMU would read it into memory of its own, and then never use it."""
    if spec.hyperv is not None:
        # Everything is in RAM already; the vCPUs wait until the host does too.
        monitor_pa = Layout(ram_bytes=spec.memory_mib << 20).monitor_pa
        return ("-S", "-device", f"loader,addr={monitor_pa:#x},cpu-num=0")
    if spec.uefi is not None:
        strings = (word for text in spec.uefi.oem_strings for word in ("-smbios", f"type=11,value={text}"))
        return ("-bios", str(spec.uefi.firmware), *strings)
    kernel, initrd = spec.direct
    return ("-kernel", str(kernel), "-initrd", str(initrd), "-append", spec.cmdline)


def _shell(spec: MachineSpec, lines: Lines) -> tuple[str, str]:
    if spec.exact is None:
        return _socket("shell", lines.shell)
    # A file takes all that is written at once; a socket that is full makes the guest wait for the host.
    return "-chardev", f"file,id=shell,path=/proc/self/fd/{lines.shell}"


def _device(spec: MachineSpec, kind: str) -> str:
    """A virtio device on the bus that the kernel drives: one that is on a disk may know PCI only."""
    return f"virtio-{kind}-{'device' if spec.uefi is None else 'pci'}"


def _entropy(spec: MachineSpec) -> tuple[str, ...]:
    if spec.exact is not None:
        return ()  # it would come when the host's thread does, and be another each time
    return (
        *("-object", "rng-random,id=entropy,filename=/dev/urandom"),
        *("-device", f"{_device(spec, 'rng')},rng=entropy"),
    )


def _machine(spec: MachineSpec) -> str:
    # KVM can only give the interrupt controller that the host has: `max` asks for the best of those.
    gic = "max" if spec.accel is Accel.KVM else "3"
    exact = "" if spec.exact is None else f",{spec.exact.machine_option}"
    wanted = (*spec.features, *((Feature.EL2,) if spec.hyperv is not None else ()))
    features = "".join(f",{feature.machine_option}" for feature in dict.fromkeys(wanted))
    its = "" if spec.its else ",its=off"
    return f"virt,gic-version={gic},memory-backend=ram{features}{its}{exact}"


def _smp(spec: MachineSpec) -> str:
    if spec.hyperv is None:
        return str(spec.vcpus)
    # The host's thread writes what vCPUs write. QEMU makes their atomic instructions atomic to others only
    # where there may be several of them (accel/tcg, CF_PARALLEL).
    return f"{spec.vcpus},maxcpus={max(2, spec.vcpus)}"


def _hyperv(lines: Lines) -> tuple[str, ...]:
    """The doorbell, a 16550 that only the monitor knows of, and the line that interrupts come by."""
    if lines.doorbell is None or lines.qtest is None:
        return ()
    return (
        *_socket("doorbell", lines.doorbell),
        *("-device", f"pci-serial,chardev=doorbell,addr={DOORBELL_SLOT:#x}"),
        *_socket("qtest", lines.qtest),
        *("-qtest", "chardev:qtest", "-qtest-log", "none"),
    )


def _accel(spec: MachineSpec) -> str:
    if spec.exact is not None:
        return spec.exact.accel
    return "kvm" if spec.accel is Accel.KVM else "tcg,thread=multi"


def _socket(name: str, descriptor: int) -> tuple[str, str]:
    return "-chardev", f"socket,id={name},fd={descriptor}"


def _disks(spec: MachineSpec, lines: Lines) -> tuple[str, ...]:
    words: list[str] = []
    below = lines.below or ((),) * len(spec.disks)
    for number, (disk, descriptor, lower) in enumerate(zip(spec.disks, lines.disks, below, strict=True)):
        if disk.mode is DiskMode.OVERLAY:
            words += _layers(f"disk{number}", disk.format, descriptor, lower)
            # By default a full disk of the host's stops the guest; it is to hear of it instead.
            errors = ",werror=report,rerror=report"
        else:
            read_only = "on" if disk.read_only else "off"
            cache = ",cache=unsafe" if disk.mode is DiskMode.DIRECT else ""
            # `discard` and the explicit format: a raw image whose content looks like qcow2 stays raw.
            words += ["-drive", f"if=none,id=disk{number},format=raw,discard=unmap,read-only={read_only},"
                                f"file=/proc/self/fd/{descriptor}{cache}"]  # fmt: skip
            errors = ""
        words += ["-device", f"{_device(spec, 'blk')},drive=disk{number},serial={disk.serial}{errors}"]
    return tuple(words)


def _layers(name: str, base: ImageFormat, top: int, below: tuple[int, ...]) -> list[str]:
    """The nodes of a disk: read-only ones from the image upwards, and the one that is written."""
    words: list[str] = []
    backing = ""
    # Nothing of it outlives the guest, so that nothing has to reach the host's disk.
    written = "discard=unmap,cache.no-flush=on"
    for depth, descriptor in enumerate((*below, top)):
        is_top = depth == len(below)
        node = name if is_top else f"{name}-{depth}"
        access = written if is_top else "read-only=on"
        driver = (base if depth == 0 else ImageFormat.QCOW2).value
        words += [
            "-blockdev",
            f"driver=file,node-name={node}-file,filename=/proc/self/fd/{descriptor},{access}",
        ]
        words += ["-blockdev", f"driver={driver},node-name={node},file={node}-file,{access}{backing}"]
        backing = f",backing={node}"
    return words


def _wire(spec: MachineSpec, lines: Lines) -> tuple[str, ...]:
    if spec.wire is None:
        # QEMU's default card needs a ROM file that a minimal installation lacks.
        return ("-nic", "none")
    network = "user,id=wire,restrict=on"
    chardev: tuple[str, ...] = ()
    if lines.wire is not None:
        chardev = _socket("peer", lines.wire)
        network += ",guestfwd=tcp:10.0.2.100:7-chardev:peer"
    # A card on PCI has a ROM by default, whose file a minimal installation of QEMU lacks.
    rom = ",romfile=" if spec.uefi is not None else ""
    return (*chardev, "-netdev", network, "-device", f"{_device(spec, 'net')},netdev=wire{rom}")
