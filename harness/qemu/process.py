"""A QEMU process that cannot outlive us, whatever kills us."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, InfraError, ToolMissing
from harness.guarded import guarded

__all__ = ["QemuProcess", "allow_starts", "kill_all"]

STDERR_LIMIT_BYTES = 1 << 16

# PR_SET_PDEATHSIG fires when the *thread* that forked the child ends (prctl(2)), and a caller's thread may
# end long before its machine does. This one lives as long as the process.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qemu-spawner")

_RUNNING: set[QemuProcess] = set()
_RUNNING_LOCK = threading.Lock()
_STOPPED = threading.Event()


def kill_all() -> None:
    """Kill every QEMU of this process, and any that starts until `allow_starts`.

    Whoever waits for one of them is answered at once.
    """
    with _RUNNING_LOCK:
        _STOPPED.set()
        for process in _RUNNING:
            process.kill()


def allow_starts() -> None:
    """Let QEMUs start again after `kill_all`, once whoever was stopped by it has ended."""
    _STOPPED.clear()


class QemuProcess:
    """QEMU, started in a session of its own (a terminal's Ctrl-C reaches us, and we end it)."""

    def __init__(self, argv: tuple[str, ...], pass_fds: tuple[int, ...]) -> None:
        self.argv = argv
        self._stderr = os.memfd_create("qemu-stderr", os.MFD_CLOEXEC)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                guarded(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=pass_fds,
                start_new_session=True,
            )

        try:
            self._process = _SPAWNER.submit(start).result()
        except OSError as error:
            os.close(self._stderr)
            if isinstance(error, FileNotFoundError):
                raise ToolMissing("setpriv", package="util-linux") from error
            raise InfraError(f"cannot start QEMU: {error.strerror}") from error
        with _RUNNING_LOCK:
            _RUNNING.add(self)
            if _STOPPED.is_set():
                self.kill()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def stderr(self) -> str:
        """The beginning of what QEMU printed."""
        return os.pread(self._stderr, STDERR_LIMIT_BYTES, 0).decode(errors="replace")

    def wait(self, deadline: Deadline) -> int:
        """Wait for it to end and return its exit status; raises DeadlineExceeded."""
        try:
            return self._process.wait(max(deadline.left_s(), 0.001))
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded("QEMU did not end in time") from None

    def peak_rss_mib(self) -> int:
        """The most host memory it has had, guest RAM that was touched included (proc(5), VmHWM)."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0  # it has ended
        match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(match[1]) >> 10 if match else 0

    def kill(self) -> None:
        """Kill it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """Kill it if it still runs, reap it, and let go of its stderr."""
        with _RUNNING_LOCK:
            _RUNNING.discard(self)
        self.kill()
        self._process.wait()
        os.close(self._stderr)
