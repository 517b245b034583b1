"""Long commands: their lines, their end, and ours."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.deadline import Deadline
from harness.errors import ToolMissing
from harness.kernels.longrun import Limits, run_lines


def is_free(lock: Path) -> bool:
    """True once no process holds the lock file."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_lines_status_and_log(tmp_path: Path) -> None:
    """Lines of stdout and stderr arrive in order and in the log; those not consumed are the tail."""
    seen: list[str] = []

    def on_line(line: str) -> bool:
        seen.append(line)
        return line == "two"

    argv = ["sh", "-c", "echo one; echo two >&2; echo three; exit 3"]
    ran = run_lines(argv, on_line, package="x", log=tmp_path / "log")
    assert (ran.status, ran.tail, seen) == (3, ("one", "three"), ["one", "two", "three"])
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"


def test_reason_is_preferred_to_chatter() -> None:
    """`said` picks the lines that name an error, else the last."""
    ran = run_lines(["sh", "-c", "echo 'E: no'; echo bye"], lambda _line: False, package="x")
    assert ran.said == "E: no"
    assert run_lines(["true"], lambda _line: False, package="x").said == "nothing"


def test_endless_output_is_bounded() -> None:
    """A megabyte without line break, or binary output, does not stop us; few lines are kept."""
    ran = run_lines(
        ["sh", "-c", "head -c 1000000 /dev/zero; head -c 100000 /dev/urandom; yes | head -1000"],
        lambda _line: False,
        package="x",
    )
    assert ran.status == 0
    assert len(ran.tail) <= 40


def test_a_silent_command_is_ended_in_time() -> None:
    """One that prints nothing and does not end is killed when its time is over, and that is said."""
    ran = run_lines(["sleep", "600"], lambda _line: True, package="x", limits=Limits(seconds=0.2))
    assert ran.status == -signal.SIGKILL
    assert ran.ended == "it did not end within 0.2 s"


def test_a_command_that_prints_too_much_is_ended(tmp_path: Path) -> None:
    """What it prints is kept up to the limit, and the log says that there was more."""
    log = tmp_path / "log"
    limits = Limits(output_bytes=1 << 20)
    ran = run_lines(["yes", "x" * 1000], lambda _line: True, package="x", log=log, limits=limits)
    assert ran.ended == "it printed over 1 MiB"
    assert log.stat().st_size < (1 << 20) + 100
    assert log.read_bytes().endswith(b"[granule: the rest is not kept]\n")


def test_environment_is_added_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with None is not passed on."""
    monkeypatch.setenv("KCFLAGS", "-O0")
    ran = run_lines(["env"], lambda _line: False, package="x", env={"KCFLAGS": None, "A": "b"})
    assert "A=b" in ran.tail
    assert "LC_ALL=C" in ran.tail
    assert not any(line.startswith("KCFLAGS") for line in ran.tail)


def test_absent_program_is_named() -> None:
    """A program that is not installed is ToolMissing with its package."""
    with pytest.raises(ToolMissing, match="apt-get install thing"):
        run_lines(["no-such-program"], lambda _line: False, package="thing")


def test_absent_guard_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without setpriv, what has it is named and not the command's package."""
    (tmp_path / "thing").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"setpriv.*apt-get install util-linux"):
        run_lines(["thing"], lambda _line: False, package="thing")


def test_exception_kills_the_whole_session(tmp_path: Path) -> None:
    """Ctrl-C while a line is handled leaves no process of the command, grandchildren included."""
    lock = tmp_path / "lock"

    def interrupt(_line: str) -> bool:
        assert not is_free(lock)
        raise KeyboardInterrupt

    script = f"flock {lock} sh -c 'echo running; sleep 1000'"
    with pytest.raises(KeyboardInterrupt):
        run_lines(["sh", "-c", script], interrupt, package="x")
    Deadline.after(5).wait_until(lambda: is_free(lock), "the command's session to end")


# What the command runs, while a process of its holds the lock. kbuild's makes echo each step, as here.
MAKEFILE = """\
jobs := $(addprefix job-,$(shell seq 200))
all: ; @+$(MAKE) --no-print-directory inner
inner: $(jobs)
$(jobs): ; @echo "  CC $@"; sleep 0.2
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["sh", "-c", "exec 9>lock; flock 9; echo running; exec sleep 1000"], id="silent"),
        pytest.param(["flock", "lock", "yes"], id="printing"),
        pytest.param(["flock", "lock", "make", "-f", "Makefile", "-j2", "all"], id="makes-below-make"),
    ],
)
def test_our_own_death_ends_the_command(tmp_path: Path, command: list[str]) -> None:
    """When granule is killed with SIGKILL the command ends, and what make started soon after."""
    lock = tmp_path / "lock"
    (tmp_path / "Makefile").write_text(MAKEFILE)
    program = (
        "from pathlib import Path\n"
        "from harness.kernels.longrun import run_lines\n"
        "say = lambda line: not print('running', flush=True)\n"
        f"run_lines({command!r}, say, package='x', cwd=Path({str(tmp_path)!r}))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parents[1])},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"running\n"
    assert not is_free(lock)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    Deadline.after(5).wait_until(lambda: is_free(lock), "the command to end")
