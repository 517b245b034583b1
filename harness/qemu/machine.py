"""A running guest: one QEMU process, the lines to it, and its end."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import TracebackType

from harness.channel.console import Console
from harness.channel.exact_shell import ExactShell
from harness.channel.gdbstub import Gdbstub
from harness.channel.qmp import Qmp, QmpCommandError
from harness.channel.shell import Shell
from harness.channel.transcript import Transcript
from harness.deadline import Deadline
from harness.determinism.obstacles import obstacles
from harness.errors import ChannelError, GuestGone, LaunchError, QemuDied, UsageError
from harness.hyperv.channel import Device
from harness.memory.ram import RAM_BASE_PA, PrivateRam, SharedRam, make_ram
from harness.qemu.argv import Lines, qemu_argv
from harness.qemu.disks import open_disks
from harness.qemu.frozen import Frozen
from harness.qemu.hyperv_part import LINES, GuestHost, make_host
from harness.qemu.probe import Qemu
from harness.qemu.process import QemuProcess
from harness.qemu.state import SavedState, load_state
from harness.qemu.wire import EchoPeer
from harness.spec import DiskMode, MachineSpec

__all__ = ["CLEAN_END", "Machine"]

CLEAN_END = "guest-shutdown"
"""QEMU's ShutdownCause for PSCI SYSTEM_OFF (qapi/run-state.json)."""

LAUNCH_S = 30.0
MONITOR_S = 10.0
# After a kernel's first word of trouble the rest of its report is still on the way.
LAST_WORDS_QUIET_S = 0.3
LAST_WORDS_LIMIT_S = 3.0
# QEMU sends the event before it ends; it may still be on its way through our side of the socket.
LAST_WORDS_S = 0.5


class Machine:
    """A QEMU process from its start to its end; a context manager.

    Raises LaunchError when QEMU does not come up. A machine whose guest panicked, rebooted or powered off
    answers GuestGone to everything but its console.

    `saved`: go on from there instead of booting, with the vCPUs stopped until QMP `cont`. Guest RAM is then
    private to QEMU. `harness.qemu.clone.start_clone` does the rest.
    `devices`: on Hyper-V, offered beside the standard ones. `watch`: there, called with the host before the
    guest's first instruction, such as `lambda host: WireChecker(host.log, host.memory, 16384)`.
    """

    def __init__(
        self, spec: MachineSpec, qemu: Qemu, *, saved: SavedState | None = None,
        devices: Sequence[Device] = (), watch: Callable[[GuestHost], object] | None = None,
    ) -> None:  # fmt: skip
        self.spec = spec
        self._saved = saved
        self.plugin_output: int | None = None
        """Descriptor of the file that the spec's plugin writes to, until the machine is closed."""
        self.hyperv: GuestHost | None = None
        """The host's side of VMBus, on a machine that is Hyper-V to its kernel."""
        self._cleanup = contextlib.ExitStack()
        self._started_s = time.monotonic()
        self._end_reason = ""
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._start(spec, qemu, saved, devices, watch)
            on_failure.pop_all()

    def _start(
        self, spec: MachineSpec, qemu: Qemu, saved: SavedState | None, devices: Sequence[Device],
        watch: Callable[[GuestHost], object] | None,
    ) -> None:  # fmt: skip
        in_the_way = obstacles(spec) if spec.exact is not None else ()
        if in_the_way:
            raise UsageError(f"this machine cannot be run so that it repeats: {'; '.join(in_the_way)}")
        with contextlib.ExitStack() as theirs:
            ours: dict[str, socket.socket] = {}
            numbers: dict[str, int] = {}
            wired = spec.wire is not None and spec.wire.echo
            sockets = ("monitor", "console", *(() if spec.exact is not None else ("shell",)), "gdb")
            extra = (*(("wire",) if wired else ()), *(LINES if spec.hyperv is not None else ()))
            for name in (*sockets, *extra):
                mine, other = socket.socketpair()
                ours[name] = self._cleanup.enter_context(mine)
                numbers[name] = theirs.enter_context(other).fileno()
            self._ram = make_ram(spec.memory_mib) if saved is None else os.dup(saved.ram)
            self._cleanup.callback(os.close, self._ram)
            opened = open_disks(spec.disks, () if saved is None else saved.overlays, self._cleanup)
            self._disks = tuple(disk.top for disk in opened)
            below = tuple(disk.below for disk in opened)
            self._gdb = Gdbstub(ours["gdb"])
            if spec.hyperv is not None:
                self.hyperv = make_host(spec, self._ram, devices, ours)
                self._cleanup.callback(self.hyperv.close)
                if watch is not None:
                    watch(self.hyperv)
            self.exact: ExactShell | None = None
            if spec.exact is not None:
                self.exact = ExactShell(self._gdb, spec.exact.seed, self.raise_if_gone)
                # Registered before QEMU, and so released after it: all that it wrote is there.
                self._cleanup.callback(self.exact.close)
                numbers["shell"] = self.exact.output
            if spec.plugin is not None:
                self.plugin_output = numbers["plugin"] = os.memfd_create("granule-plugin", os.MFD_CLOEXEC)
                self._cleanup.callback(os.close, self.plugin_output)
            lines = Lines(ram=self._ram, disks=self._disks, below=below, **numbers)
            argv = qemu_argv(
                spec, lines, program=qemu.program, sandbox=qemu.has_sandbox, clone=saved is not None
            )
            states = () if saved is None else (theirs.enter_context(saved.reopened()).fileno(),)
            self.process = QemuProcess(
                argv, (self._ram, *self._disks, *chain(*below), *numbers.values(), *states)
            )
            self._cleanup.callback(self.process.close)
        self.console = Console(ours["console"], saved.console if saved is not None else b"")
        self._cleanup.callback(self.console.close)
        self.shell: Shell | ExactShell = self.exact or Shell(ours["shell"], self.raise_if_gone)
        self.wire = EchoPeer(ours["wire"]) if wired else None
        if self.wire is not None:
            self._cleanup.callback(self.wire.close)
        deadline = Deadline.after(LAUNCH_S)
        try:
            self.qmp = Qmp(ours["monitor"], deadline)
        except ChannelError as error:
            # A QEMU that refuses its command line closes the monitor just before it ends.
            with contextlib.suppress(ChannelError):
                self.process.wait(Deadline.after(2))
            raise LaunchError(
                "the guest could not be started", argv=argv, exit_status=self.process.exit_status(),
                stderr=self.process.stderr(),
            ) from error  # fmt: skip
        self._cleanup.callback(self.qmp.close)
        if states:
            load_state(self.qmp, self.process, states[0])
        self.accelerator = self._accelerator()
        if self.exact is not None:
            self.exact.go()
        if self.hyperv is not None:
            self.hyperv.go(self.qmp)

    def _accelerator(self) -> str:
        """The accelerator in use, as QEMU says: `kvm` or `tcg`."""
        try:
            answer = self.qmp.execute("query-kvm", Deadline.after(MONITOR_S))
        except QmpCommandError:
            # Deprecated in QEMU 11 and gone some day. `-accel kvm` alone never falls back to another.
            return self.spec.accel.value
        return "kvm" if answer["enabled"] else "tcg"

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill QEMU and release everything; the console's transcript stays readable."""
        self._cleanup.close()

    def when_closed(self, callback: Callable[[], object]) -> None:
        """Have something of the caller's released with this machine, after QEMU has ended."""
        with contextlib.ExitStack() as first:
            first.callback(callback)
            first.push(self._cleanup.pop_all())
            self._cleanup = first.pop_all()

    @property
    def ram(self) -> int:
        """Descriptor of the RAM file: the guest's RAM itself, but for a clone its template's."""
        return self._ram

    @property
    def is_clone(self) -> bool:
        """True for a machine that was not booted but goes on from a template's state."""
        return self._saved is not None

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line that was run."""
        return self.process.argv

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started_s

    @property
    def overlays(self) -> tuple[int, ...]:
        """Descriptors of what the guest has written to disks that are overlays, in the spec's order."""
        pairs = zip(self.spec.disks, self._disks, strict=True)
        return tuple(descriptor for disk, descriptor in pairs if disk.mode is DiskMode.OVERLAY)

    def disk_path(self, serial: str) -> str:
        """A path under which the host can open this machine's copy of a disk."""
        index = next(number for number, disk in enumerate(self.spec.disks) if disk.serial == serial)
        return f"/proc/{os.getpid()}/fd/{self._disks[index]}"

    def raise_if_gone(self) -> None:
        """Raise GuestGone, naming the reason, when the guest is beyond answering; QemuDied if QEMU is."""
        if self.hyperv is not None and self.hyperv.failure and self.process.exit_status() is None:
            raise ChannelError(self.hyperv.failure)
        if self.console.fatal_pending():
            self.console.drain(LAST_WORDS_QUIET_S, LAST_WORDS_LIMIT_S)
            raise GuestGone("the kernel reported something fatal")
        event = self.console.fatal_event()
        if event is not None:
            self.console.drain(LAST_WORDS_QUIET_S, LAST_WORDS_LIMIT_S)
            raise GuestGone(f"the kernel said: {event.line.strip()}")
        status = self.process.exit_status()
        if status is not None:
            self.console.drain(LAST_WORDS_QUIET_S, LAST_WORDS_LIMIT_S)
            if status != 0:
                said = self.process.stderr().strip() or "nothing on stderr"
                raise QemuDied(f"QEMU died with status {status} (negative: by a signal) and said: {said}")
            reason = self._how_it_ended()
            if reason.startswith("host-"):
                raise QemuDied(f"QEMU was ended from outside ({reason})")
            raise GuestGone(f"the guest ended by itself ({reason})")

    def _how_it_ended(self) -> str:
        """QEMU's word for why it ended, such as `guest-shutdown` (qapi/run-state.json, ShutdownCause)."""
        if not self._end_reason:
            event = self.qmp.wait_event("SHUTDOWN", Deadline.after(LAST_WORDS_S)) or {}
            said = self.process.stderr().strip()
            self._end_reason = str(event.get("reason", "")) or said or "it gave no reason"
        return self._end_reason

    @property
    def is_off(self) -> bool:
        """True when the guest has powered itself off (PSCI SYSTEM_OFF), however that came about."""
        return self.process.exit_status() == 0 and self._how_it_ended() == CLEAN_END

    def power_off(self, deadline: Deadline) -> str:
        """Have the guest power itself off; returns QEMU's reason for ending, CLEAN_END if clean.

        On Hyper-V the host asks it to, where the guest has the driver for that.
        """
        with contextlib.suppress(ChannelError):
            if self.hyperv is None or not self.hyperv.standard.shutdown.is_ready:
                self.shell.run("sync; exec poweroff -f", deadline)
            else:
                self.shell.run("sync", deadline)
                self.hyperv.ask_to_power_off()
        status = self.process.wait(deadline)
        # QEMU's end of the console is closed: what the kernel said last is on its way, and then nothing.
        self.console.drain(LAST_WORDS_LIMIT_S, LAST_WORDS_LIMIT_S)
        reason = self._how_it_ended()
        if status != 0 or reason.startswith("host-"):
            raise QemuDied(f"QEMU died during power-off with status {status} ({reason})")
        return reason

    @contextlib.contextmanager
    def frozen(self) -> Iterator[Frozen]:
        """Stop the vCPUs, give access to registers and memory, and let the guest go on afterwards.

        A guest whose run is to repeat is stopped already where it asks for input. One that does not come
        back to there is stopped by the host's clock: what it does from then on does not repeat.
        """
        deadline = Deadline.after(MONITOR_S)
        if self.exact is not None and self.exact.at_trap:
            with contextlib.closing(self._memory(deadline)) as memory:
                yield Frozen(gdb=self._gdb, qmp=self.qmp, memory=memory, vcpus=self._gdb.vcpus(deadline))
            return
        if self.exact is not None:
            self.exact.give_up()
        with self._stopped(deadline), contextlib.closing(self._memory(deadline)) as memory:
            yield Frozen(gdb=self._gdb, qmp=self.qmp, memory=memory, vcpus=self._gdb.vcpus(deadline))

    @contextlib.contextmanager
    def _stopped(self, deadline: Deadline) -> Iterator[None]:
        if self.hyperv is not None:
            with self.hyperv.stopped(self.qmp, self._gdb, deadline):
                yield
            return
        self.qmp.execute("stop", deadline)
        try:
            yield
        finally:
            with contextlib.suppress(ChannelError):
                self.qmp.execute("cont", Deadline.after(MONITOR_S))

    def _memory(self, deadline: Deadline, *, private: bool | None = None) -> SharedRam | PrivateRam:
        size_bytes = self.spec.memory_mib << 20
        if not (self.is_clone if private is None else private):
            return SharedRam(self._ram, size_bytes)
        answer = self.qmp.execute("human-monitor-command", deadline, command_line=f"gpa2hva {RAM_BASE_PA:#x}")
        try:
            hva = int(answer.split()[-1], 16)
        except (ValueError, IndexError):
            raise ChannelError(f"QEMU did not say where it keeps RAM: {answer!r}") from None
        return PrivateRam(self.process.pid, hva, size_bytes)

    @property
    def transcript(self) -> Transcript:
        """The kernel's console, from the first byte."""
        return self.console.transcript
