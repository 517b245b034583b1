"""Children that must not outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

from harness.guarded import guarded


def test_runs_the_command_in_its_own_place() -> None:
    """The guard is replaced by the command, with its arguments as they were."""
    done = subprocess.run(guarded(["printf", "%s|", "a b", "$c"]), capture_output=True, check=True)
    assert done.stdout == b"a b|$c|"


def test_ends_with_the_thread_that_started_it() -> None:
    """The command is killed when its parent thread ends, though the process lives on."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        process = subprocess.Popen(guarded(["sh", "-c", "echo up; exec sleep 60"]), stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.wait(10) == -signal.SIGKILL


def test_parent_that_died_before_the_arming() -> None:
    """A command whose parent is not the process that asked for it is not started."""
    argv = list(guarded(["true"]))
    argv[argv.index(str(os.getpid()))] = "1"
    assert subprocess.run(argv, check=False).returncode == 125
