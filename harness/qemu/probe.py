"""What this host's QEMU can do: asked of QEMU itself, not read from a table.

A CPU model's granules are what its ID_AA64MMFR0_EL1 says (Arm ARM D24.2, "ID_AA64MMFR0_EL1"): QEMU is
started with that model, stopped before its first instruction, and its gdbstub read.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass

from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp, QmpCommandError
from harness.deadline import Deadline
from harness.errors import ChannelError, GranuleError, LaunchError, ToolMissing, UsageError
from harness.qemu.process import QemuProcess
from harness.spec import Accel, PageSize

__all__ = ["CpuModel", "Qemu", "granules_of", "kvm_obstacle", "resolve_accel"]

PROBE_S = 20.0
OLDEST = (7, 2)
# Application-profile models without AArch64, which qemu-system-aarch64 lists too.
AARCH32 = frozenset(
    {"cortex-a5", "cortex-a7", "cortex-a8", "cortex-a9", "cortex-a12", "cortex-a15", "cortex-a17"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuModel:
    """A CPU as QEMU will present it."""

    argument: str
    """The `-cpu` argument to use, with what makes emulation quicker at no loss (see `cpu_model`)."""
    granules: frozenset[PageSize]
    """Translation granules at stage 1; empty when QEMU did not say (KVM before 8.0 only)."""


def granules_of(mmfr0: int) -> frozenset[PageSize]:
    """Stage 1 granules that a value of ID_AA64MMFR0_EL1 names.

    TGran4 is 31:28 and TGran64 27:24, both with 15 for none; TGran16 is 23:20, with 0 for none.
    """
    fields = {
        PageSize.K4: (mmfr0 >> 28 & 0xF) != 0xF,
        PageSize.K64: (mmfr0 >> 24 & 0xF) != 0xF,
        PageSize.K16: (mmfr0 >> 20 & 0xF) != 0,
    }
    return frozenset(size for size, supported in fields.items() if supported)


@dataclass(frozen=True)
class Qemu:
    """A qemu-system-aarch64 that was found and asked for its version."""

    program: str
    version: tuple[int, int, int]
    has_sandbox: bool

    @classmethod
    @functools.cache
    def find(cls, program: str = "qemu-system-aarch64") -> Qemu:
        """The QEMU on PATH; raises ToolMissing, or UsageError when it is older than 7.2."""
        path = shutil.which(program)
        if path is None:
            raise ToolMissing(program, package="qemu-system-arm")
        said = _output(path, "--version")
        match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
        if match is None:
            raise UsageError(f"{path} does not look like QEMU: it answered --version with {said[:80]!r}")
        major, minor, micro = map(int, match.groups())
        if (major, minor) < OLDEST:
            raise UsageError(f"{path} is QEMU {major}.{minor}.{micro}; granule needs 7.2 or later")
        return cls(path, (major, minor, micro), "-sandbox" in _output(path, "-help"))

    @property
    def version_text(self) -> str:
        """As people write it: 7.2.22."""
        return ".".join(map(str, self.version))

    @functools.cache  # noqa: B019 - one or two instances in a process, both kept to its end
    def cpu_names(self) -> tuple[str, ...]:
        """The 64-bit CPU models it knows, by name."""
        listed = [
            line.strip() for line in _output(self.program, "-machine", "virt", "-cpu", "help").splitlines()
        ]
        names = [line.split()[0] for line in listed if line and not line.endswith(":")]
        return tuple(
            name
            for name in names
            if re.match(r"cortex-[ax]\d|neoverse|a64fx|max$", name) and name not in AARCH32
        )

    @functools.cache  # noqa: B019 - as above
    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """The model that `-cpu argument` selects; raises UsageError where it is refused or 32-bit.

        Under TCG, a model that takes `pauth-impdef` gets it: QEMU's default pointer authentication is the
        architected QARMA5, which costs a kernel built with it half of its time and tests nothing of ours.
        """
        try:
            with contextlib.ExitStack() as stack:
                return self._ask_cpu_model(argument, accel, stack)
        except LaunchError as error:
            raise UsageError(self._cpu_refusal(argument, error)) from error

    def _ask_cpu_model(self, argument: str, accel: Accel, stack: contextlib.ExitStack) -> CpuModel:
        deadline = Deadline.after(PROBE_S)
        monitor, their_monitor = (stack.enter_context(end) for end in socket.socketpair())
        gdb, their_gdb = (stack.enter_context(end) for end in socket.socketpair())
        lines = (their_monitor.fileno(), their_gdb.fileno())
        argv = (
            *(self.program, "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-S"),
            *("-machine", "virt", "-accel", accel.value, "-cpu", argument, "-m", "64M"),
            *("-chardev", f"socket,id=monitor,fd={lines[0]}", "-mon", "chardev=monitor,mode=control"),
            *("-chardev", f"socket,id=gdb,fd={lines[1]}", "-gdb", "chardev:gdb"),
        )
        process = QemuProcess(argv, lines)
        stack.callback(process.close)
        their_monitor.close()
        their_gdb.close()
        try:
            qmp = Qmp(monitor, deadline)
        except ChannelError as error:
            with contextlib.suppress(ChannelError):
                process.wait(Deadline.after(2))
            raise LaunchError(
                f"-cpu {argument}", argv=argv, exit_status=process.exit_status(), stderr=process.stderr()
            ) from error
        stack.callback(qmp.close)
        registers = _id_registers(Gdbstub(gdb), deadline)
        quicker = accel is Accel.TCG and "pauth" not in argument and _takes_impdef(qmp, argument, deadline)
        mmfr0 = registers.get("ID_AA64MMFR0_EL1")
        if mmfr0 is None and accel.is_emulation:
            raise UsageError(
                f"QEMU's CPU {argument} has no AArch64 state (it shows no ID_AA64MMFR0_EL1), so it cannot "
                f"run an arm64 kernel; these can: {', '.join(self.cpu_names())}"
            )
        return CpuModel(
            argument=f"{argument},pauth-impdef=on" if quicker else argument,
            granules=granules_of(mmfr0) if mmfr0 is not None else frozenset(),
        )

    def _cpu_refusal(self, argument: str, error: LaunchError) -> str:
        name = argument.partition(",")[0]
        if name not in self.cpu_names() and name != "host":
            known = ", ".join(self.cpu_names())
            return f"QEMU {self.version_text} has no CPU model '{name}' for arm64 kernels; it has {known}"
        return f"QEMU {self.version_text} refuses -cpu {argument}: {error.stderr.strip()}"

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """CPU models of this QEMU that have the granule; starts QEMU once for each model.

        Empty for KVM, which runs the host's CPU and no other. A model that cannot be asked is left out.
        """
        if not accel.is_emulation:
            return ()
        found = []
        for name in self.cpu_names():
            with contextlib.suppress(GranuleError):
                if size in self.cpu_model(name, accel).granules:
                    found.append(name)
        return tuple(found)


def _id_registers(gdb: Gdbstub, deadline: Deadline) -> dict[str, int]:
    (first, *_) = gdb.vcpus(deadline)
    return gdb.registers(first, ("ID_AA64MMFR0_EL1",), deadline)


def _takes_impdef(qmp: Qmp, argument: str, deadline: Deadline) -> bool:
    name = argument.partition(",")[0]
    try:
        answer = qmp.execute("query-cpu-model-expansion", deadline, type="full", model={"name": name})
    except QmpCommandError:
        return False  # QEMU 7.2 expands only models that have something to choose
    return "pauth-impdef" in answer["model"].get("props", {})


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{argv[0]} cannot be run: {error}") from error
    return done.stdout + done.stderr


def kvm_obstacle() -> str | None:
    """Why KVM cannot be used here, or None when it can."""
    if platform.machine() != "aarch64":
        return f"this host is {platform.machine()}: KVM runs arm64 guests on arm64 hosts only"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "/dev/kvm does not exist: the kernel has no KVM, or runs without EL2"
    except PermissionError:
        return "/dev/kvm is not permitted to this user: add it to the group `kvm` and log in again"
    except OSError as error:
        return f"/dev/kvm cannot be opened: {error.strerror}"
    return None


def resolve_accel(wanted: Accel) -> Accel:
    """TCG or KVM for `wanted`; raises UsageError when KVM was asked for by name and cannot be had."""
    obstacle = kvm_obstacle()
    if wanted is Accel.KVM and obstacle is not None:
        raise UsageError(f"--accel kvm: {obstacle}. Use --accel tcg, or auto for whatever there is.")
    if wanted is Accel.AUTO:
        return Accel.TCG if obstacle is not None else Accel.KVM
    return wanted
