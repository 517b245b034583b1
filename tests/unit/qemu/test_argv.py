"""Tests of harness.qemu.argv: the command line, without QEMU."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from harness.determinism.conditions import Conditions
from harness.determinism.seed import Seed
from harness.qemu.argv import Lines, qemu_argv
from harness.spec import Accel, Disk, DiskMode, Feature, Hyperv, MachineSpec, Uefi, Wire

SPEC = MachineSpec(
    kernel=Path("/k/Image"), initrd=Path("/k/initrd"), cmdline="console=ttyAMA0 arm64.pagesize=16k"
)
LINES = Lines(ram=10, monitor=11, console=12, shell=13, gdb=14)  # noqa: S604 - a line, not a shell


def _option(argv: tuple[str, ...], name: str) -> list[str]:
    return [value for option, value in pairwise(argv) if option == name]


def test_command_line() -> None:
    """The whole command line of an ordinary guest."""
    assert " ".join(qemu_argv(SPEC, LINES, program="qemu")) == (
        "qemu -nodefaults -no-user-config -display none -no-reboot "
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny "
        "-machine virt,gic-version=3,memory-backend=ram -accel tcg,thread=multi "
        "-cpu neoverse-n1 -smp 2 -m 384M "
        "-object memory-backend-file,id=ram,size=384M,share=on,mem-path=/proc/self/fd/10 "
        "-chardev socket,id=monitor,fd=11 -mon chardev=monitor,mode=control "
        "-chardev socket,id=console,fd=12 -serial chardev:console "
        "-chardev socket,id=shell,fd=13 -device virtio-serial-device "
        "-device virtserialport,chardev=shell,name=granule "
        "-chardev socket,id=gdb,fd=14 -gdb chardev:gdb "
        "-object rng-random,id=entropy,filename=/dev/urandom -device virtio-rng-device,rng=entropy "
        "-nic none -kernel /k/Image -initrd /k/initrd -append console=ttyAMA0 arm64.pagesize=16k"
    )


def test_kvm() -> None:
    """KVM takes the host's best interrupt controller and no TCG option."""
    argv = qemu_argv(replace(SPEC, accel=Accel.KVM, cpu="host"), LINES, program="qemu")
    assert _option(argv, "-accel") == ["kvm"]
    assert _option(argv, "-machine") == ["virt,gic-version=max,memory-backend=ram"]
    assert _option(argv, "-cpu") == ["host"]


def test_uefi() -> None:
    """Firmware takes the place of a kernel; every device is on PCI; systemd's credentials are whole."""
    uefi = Uefi(firmware=Path("/f/QEMU_EFI.fd"), oem_strings=("io.systemd.credential:a=b", "c=d=="))
    disk = Disk(path=Path("/d"), serial="root")
    spec = MachineSpec(uefi=uefi, disks=(disk,), wire=Wire())
    argv = qemu_argv(spec, replace(LINES, disks=(20,), wire=21), program="qemu")
    assert _option(argv, "-bios") == ["/f/QEMU_EFI.fd"]
    assert _option(argv, "-smbios") == [
        "type=11,value=io.systemd.credential:a=b", "type=11,value=c=d==",
    ]  # fmt: skip
    assert not {"-kernel", "-initrd", "-append"} & set(argv)
    devices = [device.partition(",")[0] for device in _option(argv, "-device")]
    assert devices == [
        "virtio-serial-pci", "virtserialport", "virtio-rng-pci", "virtio-blk-pci", "virtio-net-pci",
    ]  # fmt: skip
    assert _option(argv, "-device")[-1].endswith(",romfile=")


def test_hyperv() -> None:
    """The monitor starts at EL2 in RAM that the host has filled; doorbell and qtest have their sockets."""
    spec = replace(SPEC, hyperv=Hyperv(monitor=Path("/m")), vcpus=1)
    argv = qemu_argv(spec, replace(LINES, doorbell=20, qtest=21), program="qemu")
    assert _option(argv, "-machine") == ["virt,gic-version=3,memory-backend=ram,virtualization=on"]
    assert _option(argv, "-smp") == ["1,maxcpus=2"]
    assert "-kernel" not in argv
    assert "-S" in argv
    assert "loader,addr=0x57e00000,cpu-num=0" in argv  # 2 MiB below the end of 384
    assert "pci-serial,chardev=doorbell,addr=0x1e" in argv
    assert {"socket,id=doorbell,fd=20", "socket,id=qtest,fd=21"} <= set(_option(argv, "-chardev"))
    assert _option(argv, "-qtest") == ["chardev:qtest"]
    assert not any("semihosting" in word for word in argv)


def test_no_sandbox_where_qemu_lacks_it() -> None:
    """A QEMU without seccomp is not asked for its sandbox."""
    assert "-sandbox" not in qemu_argv(SPEC, LINES, program="qemu", sandbox=False)


def test_disks() -> None:
    """Each disk gets a raw drive on its descriptor and a device with its serial."""
    disks = (Disk(path=Path("/a"), serial="one"), Disk(path=Path("/b"), serial="two", read_only=True))
    argv = qemu_argv(replace(SPEC, disks=disks), replace(LINES, disks=(20, 21)), program="qemu")
    drives = _option(argv, "-drive")
    assert [drive.rpartition("file=")[2] for drive in drives] == ["/proc/self/fd/20", "/proc/self/fd/21"]
    assert all("format=raw" in drive for drive in drives)
    assert ["read-only=on" in drive for drive in drives] == [False, True]
    serials = [
        device.partition("serial=")[2] for device in _option(argv, "-device") if "virtio-blk" in device
    ]
    assert serials == ["one", "two"]


def test_layers() -> None:
    """An overlay is a chain of nodes, read-only up to its top, whose errors the device hears of."""
    disks = (Disk(path=Path("/a"), serial="one", mode=DiskMode.OVERLAY), Disk(path=Path("/b"), serial="two"))
    lines = replace(LINES, disks=(20, 21), below=((30, 31), ()))
    argv = qemu_argv(replace(SPEC, disks=disks), lines, program="qemu")
    nodes = [dict(part.split("=", 1) for part in node.split(",")) for node in _option(argv, "-blockdev")]
    layers = [node for node in nodes if node["driver"] != "file"]
    assert [(node["driver"], node.get("backing"), node.get("read-only")) for node in layers] == [
        ("raw", None, "on"),
        ("qcow2", "disk0-0", "on"),
        ("qcow2", "disk0-1", None),
    ]
    files = {node["node-name"]: node["filename"] for node in nodes if node["driver"] == "file"}
    assert [files[node["file"]] for node in layers] == [f"/proc/self/fd/{number}" for number in (30, 31, 20)]
    devices = [device for device in _option(argv, "-device") if "virtio-blk" in device]
    assert "drive=disk0,serial=one,werror=report" in devices[0]
    assert "werror" not in devices[1]
    assert len(_option(argv, "-drive")) == 1


def test_wire_is_cut_off_from_the_host() -> None:
    """A network card is on a restricted user network with our peer on it; without one there is no card."""
    argv = qemu_argv(replace(SPEC, wire=Wire()), replace(LINES, wire=30), program="qemu")
    assert _option(argv, "-netdev") == ["user,id=wire,restrict=on,guestfwd=tcp:10.0.2.100:7-chardev:peer"]
    assert "socket,id=peer,fd=30" in _option(argv, "-chardev")
    assert "-nic" not in argv


def test_a_clone_differs_in_nothing_that_its_guest_sees() -> None:
    """A clone's command line is its template's but for private RAM and a state instead of a kernel."""
    disks = (Disk(path=Path("/a"), serial="one"),)
    spec, lines = replace(SPEC, disks=disks, wire=Wire()), replace(LINES, disks=(20,), wire=30)
    cold = " ".join(qemu_argv(spec, lines, program="qemu"))
    clone = " ".join(qemu_argv(spec, lines, program="qemu", clone=True))
    kernel = f"-kernel {SPEC.kernel} -initrd {SPEC.initrd} -append {SPEC.cmdline}"
    assert cold.replace("share=on", "share=off").replace(kernel, "-incoming defer") == clone
    assert cold != clone


def test_a_run_that_repeats() -> None:
    """Time by instructions on one thread, entropy from the seed, a file for the shell, a stopped start."""
    exact = replace(SPEC, vcpus=1, exact=Conditions.of(Seed(7)))
    argv = qemu_argv(exact, LINES, program="qemu")
    assert _option(argv, "-accel") == ["tcg,thread=single"]
    assert _option(argv, "-machine") == ["virt,gic-version=3,memory-backend=ram,dtb-randomness=on"]
    assert _option(argv, "-icount") == ["shift=0,sleep=off,align=off"]
    assert "file,id=shell,path=/proc/self/fd/13" in _option(argv, "-chardev")
    assert not [word for word in argv if "rng" in word and word.startswith(("rng-", "virtio-rng"))]
    assert "-S" in argv
    assert argv != qemu_argv(replace(exact, exact=Conditions.of(Seed(8))), LINES, program="qemu")
    assert argv == qemu_argv(exact, LINES, program="qemu")


def test_a_plugin() -> None:
    """A plugin is loaded and told where to write."""
    argv = qemu_argv(replace(SPEC, plugin=Path("/p/count.so")), replace(LINES, plugin=22), program="qemu")
    assert _option(argv, "-plugin") == ["/p/count.so,out=22"]
    assert "-plugin" not in qemu_argv(SPEC, LINES, program="qemu")


def test_features_are_properties_of_the_machine() -> None:
    """EL2 and tag memory are there when asked for, and not otherwise."""
    plain = qemu_argv(SPEC, LINES, program="qemu")
    with_both = qemu_argv(replace(SPEC, features=tuple(Feature)), LINES, program="qemu")
    assert "virtualization=on" not in " ".join(plain)
    assert "mte=on" not in " ".join(plain)
    (machine,) = (word for word in with_both if word.startswith("virt,"))
    assert machine.endswith(",virtualization=on,mte=on")


def test_a_machine_without_its() -> None:
    """It has the interrupt controller without the translation service, and is otherwise the same."""
    with_its, without = (qemu_argv(replace(SPEC, its=its), LINES, program="qemu") for its in (True, False))
    assert _option(without, "-machine") == ["virt,gic-version=3,memory-backend=ram,its=off"]
    assert [word for word in without if "its=off" not in word] == [
        word for word in with_its if "gic-version" not in word
    ]
