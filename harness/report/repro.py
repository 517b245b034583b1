"""A directory that shows again what a cell found, with QEMU and a shell only.

    Image, initramfs.cpio, disk-*   copies of what the guest was made of
    argv                            QEMU's arguments, one a line
    expected                        pieces of the console's line that tells
    run.sh, README                  how to run it, and what was found

The guest is the one of the cell; an archive appended to its initramfs has init run the scripts of the
checks, up to the one that failed, instead of waiting for the host. What needs the host itself is refused.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Final

from harness.build.initramfs import Entry, file, write_cpio
from harness.errors import InfraError, UsageError
from harness.linux.klog import EventKind, KernelLog
from harness.memory.sparse import copy_data
from harness.paths import data_dir
from harness.report.wording import safe
from harness.spec import Platform
from harness.verdict import CellResult, CheckResult

__all__ = ["refusal_of", "write_repro"]

# Those whose other end is in the host's process: without it their scripts would wait for nothing.
_OF_THE_HOST: Final = frozenset({"network", "ssh"})
_MEMORY_CHECKS: Final = frozenset({"user-tables", "kernel-tables"})
_OF_DISKS: Final = "-block"
"""How the names of its scripts end."""
_MAX_EXPECTED: Final = 20
_BLOCK_BYTES: Final = 1 << 20


def refusal_of(cell: CellResult) -> str:
    """Why a cell cannot be shown with QEMU alone; empty where it can."""
    if cell.verdict.is_pass:
        return "it passed, so that there is nothing to show"
    if cell.platform is not Platform.VIRT:
        return f"the host's side of {cell.platform.value} is granule's own; run it with: {cell.rerun}"
    if cell.guest.is_on_disk:
        return f"its guest's disks are layers above one of {cell.guest.value}; run it with: {cell.rerun}"
    if cell.exact is not None:
        return f"its run repeats as it is: {cell.rerun}"
    if not cell.provenance.get("image"):
        return "its report does not say what it was made of: it is of an older granule; run the cell again"
    return ""


def write_repro(cell: CellResult, directory: Path) -> None:
    """Make the directory; raises UsageError where the cell cannot be shown so, or the directory has files."""
    why = refusal_of(cell)
    if why:
        raise UsageError(f"{cell.id}: {why}")
    image, initramfs = Path(cell.provenance["image"]), Path(cell.provenance["initramfs"])
    for path in (image, initramfs):
        if not path.is_file():
            raise UsageError(f"{cell.id}: {path} is gone from the cache; run it again with: {cell.rerun}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is there already; give a directory that is not, or is empty")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, directory / "Image")
        _write_initramfs(cell, initramfs, directory / "initramfs.cpio")
        disks = _copy_disks(cell, directory)
        (directory / "argv").write_text("".join(f"{word}\n" for word in _argv(cell, disks)), encoding="utf-8")
        (directory / "expected").write_text(
            "".join(f"{line}\n" for line in expected_of(cell)), encoding="utf-8"
        )
        shutil.copyfile(data_dir("guests") / "repro/run.sh", directory / "run.sh")
        (directory / "run.sh").chmod(0o755)
        (directory / "README").write_text(_readme(cell), encoding="utf-8")
    except OSError as error:
        raise InfraError(f"cannot write {directory}: {error.strerror}") from error


def expected_of(cell: CellResult) -> list[str]:
    """What tells on the console: two pieces of one line each, with a tab between."""
    log = KernelLog()
    events = log.feed(cell.console.encode("utf-8", "replace"))
    lines = [
        f"{event.line}\t"
        for event in (*events, *log.finish())
        if event.kind.is_finding and event.kind is not EventKind.TAINT
    ]
    lines += [f"not ok \t{finding.what}" for check in _failed(cell) for finding in check.findings]
    plain = [line.replace("\n", " ") for line in dict.fromkeys(lines)]
    return plain[:_MAX_EXPECTED]


def _failed(cell: CellResult) -> list[CheckResult]:
    own = [check for check in cell.checks if check.verdict.is_failure and check.name in cell.commands]
    return own[:1]


def _scripts(cell: CellResult) -> list[tuple[str, str]]:
    """Name and text of each script, up to the last of the check that failed, or all where none did."""
    failed = _failed(cell)
    ran = [check.name for check in cell.checks if check.name in cell.commands]
    # The last one has no result where the guest did not outlive it.
    ran += [name for name in cell.commands if name and name not in ran]
    found: list[tuple[str, str]] = []
    for check in ran:
        if check not in _OF_THE_HOST:
            found += [(check, script) for script in cell.commands[check]]
        if failed and check == failed[0].name:
            break
    return [(f"{number:03}-{check}", script) for number, (check, script) in enumerate(found, start=1)]


def _write_initramfs(cell: CellResult, given: Path, target: Path) -> None:
    guests = data_dir("guests")
    entries: list[Entry] = [file("etc/granule/repro.sh", (guests / "repro/repro.sh").read_bytes())]
    entries += [
        file(f"etc/granule/repro/{name}", f"{script}\n".encode("utf-8", "surrogateescape"))
        for name, script in _scripts(cell)
    ]
    with tempfile.NamedTemporaryFile() as added, target.open("wb") as out:
        write_cpio(Path(added.name), entries)
        for part in (given, Path(added.name)):
            with part.open("rb") as source:
                shutil.copyfileobj(source, out, _BLOCK_BYTES)


def _copy_disks(cell: CellResult, directory: Path) -> list[tuple[str, str]]:
    """Serial and file of each disk; none where no script uses them."""
    disks: list[tuple[str, str]] = []
    if not any(name.endswith(_OF_DISKS) for name, _script in _scripts(cell)):
        return disks
    for word in shlex.split(cell.provenance.get("disks", "")):
        serial, _equals, path = word.partition("=")
        if not Path(path).is_file():
            raise UsageError(f"{cell.id}: its disk {path} is gone; run it again with: {cell.rerun}")
        name = f"disk-{serial}"
        _copy_with_holes(Path(path), directory / name)
        disks.append((serial, name))
    return disks


def _copy_with_holes(source: Path, target: Path) -> None:
    """A copy that takes no room for what is zero, as most of a disk's image is."""
    with source.open("rb") as given, target.open("wb") as copy:
        size_bytes = os.fstat(given.fileno()).st_size
        os.ftruncate(copy.fileno(), size_bytes)
        copy_data(given.fileno(), copy.fileno(), size_bytes)


def _argv(cell: CellResult, disks: list[tuple[str, str]]) -> list[str]:
    """QEMU's arguments: the machine of harness.qemu.argv without the lines to a host."""
    words = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", _machine(cell), "-accel", "tcg,thread=multi", "-cpu", cell.cpu.replace("+", ",")]
    words += ["-smp", str(cell.vcpus), "-m", f"{cell.memory_mib}M", "-nic", "none"]
    words += ["-chardev", "stdio,id=console,signal=off,logfile=console.log", "-serial", "chardev:console"]
    words += [
        "-object",
        "rng-random,id=entropy,filename=/dev/urandom",
        "-device",
        "virtio-rng-device,rng=entropy",
    ]
    for number, (serial, name) in enumerate(disks):
        words += ["-drive", f"if=none,id=disk{number},format=raw,snapshot=on,file={name}"]
        words += ["-device", f"virtio-blk-device,drive=disk{number},serial={serial}"]
    return [
        *words,
        "-kernel",
        "Image",
        "-initrd",
        "initramfs.cpio",
        "-append",
        cell.provenance["command line"],
    ]


def _machine(cell: CellResult) -> str:
    """As the cell had it, without what is the host's."""
    words = shlex.split(cell.provenance.get("argv", ""))
    given = words[words.index("-machine") + 1] if "-machine" in words else "virt,gic-version=3"
    return ",".join(part for part in given.split(",") if not part.startswith("memory-backend="))


def _readme(cell: CellResult) -> str:
    lines = [
        f"{cell.id}: {cell.verdict.value}: {safe(cell.reason)}",
        "",
        "To see it again, with qemu-system-aarch64 and a shell:",
        "",
        "  ./run.sh",
        "",
        "Exit status: 1 it shows again, 0 it does not, 2 QEMU could not be started, 125 the console alone",
        "does not tell. The guest boots, runs the scripts in etc/granule/repro of its initramfs, and ends;",
        "its console comes to the terminal and to console.log.",
        "",
        f"Kernel: {safe(cell.kernel)}",
        f"  sha256 {cell.provenance.get('kernel sha256', '?')}, asked for {cell.page_size_asked.label} pages",
        f"QEMU that it was found with: {safe(cell.provenance.get('QEMU', '?'))}",
        "",
        "What was found:",
        *(
            f"  {check.name}: {safe(str(finding))}"
            for check in cell.checks
            if check.verdict.is_failure
            for finding in check.findings[:5]
        ),
    ]
    if any(check.verdict.is_failure and check.name in _MEMORY_CHECKS for check in cell.checks):
        lines += [
            "",
            "The check looked at the guest's memory from outside, which this does not: it shows what the",
            f"guest did meanwhile. The check itself: {safe(cell.rerun)}",
        ]
    left_out = sorted(_OF_THE_HOST & cell.commands.keys())
    if left_out:
        lines += ["", f"Left out, since they need a peer: {', '.join(left_out)}."]
    return "\n".join([*lines, ""])
