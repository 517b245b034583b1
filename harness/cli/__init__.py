"""The `granule` program: one module per command, and the one place that turns errors into exit statuses."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType

import click

from harness import __version__
from harness.cli.bench import bench
from harness.cli.boot import boot
from harness.cli.cache import cache
from harness.cli.combine import combine
from harness.cli.doctor import doctor
from harness.cli.guests import guests
from harness.cli.hyperv import hyperv
from harness.cli.kernels import kernels
from harness.cli.kexec import kexec
from harness.cli.kselftest import kselftest
from harness.cli.replay import replay
from harness.cli.report import report
from harness.cli.repro import repro
from harness.cli.run import run
from harness.cli.series import series
from harness.cli.smoke import smoke
from harness.cli.tables import tables
from harness.errors import ExitStatus, GranuleError

__all__ = ["main"]

EPILOG = """
Exit status: 0 every cell passed, 1 a cell failed, 2 what was asked cannot be, 3 this machine is at fault
(a tool, a kernel or the network is missing), 130 interrupted,
143 terminated.

\b
Start with:
  granule doctor                      what this host has and lacks
  granule smoke                       Debian's 4K and 16K kernels and our 64K one
  granule smoke --kernel ./Image      a kernel of yours
  granule boot --page-size 16k        a shell in a 16K guest
"""


@click.group(
    epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="granule")
def granule() -> None:
    """Boot real arm64 kernels at 4K, 16K and 64K pages under QEMU, and say what was found."""


_COMMANDS = (
    smoke, boot, run, hyperv, kselftest, kexec, series, report, repro, replay, bench, kernels, guests,
    combine, tables, cache, doctor,
)  # fmt: skip
for _command in _COMMANDS:
    granule.add_command(_command)


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that whatever holds a guest or a build lets go of it."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def main() -> None:
    """Entry point: run a command and end with its exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        # A locale that lacks a character must not cost a verdict.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        # Not standalone: click returns the status of Context.exit() instead of ending the process.
        status = granule.main(standalone_mode=False) or ExitStatus.PASSED
    except click.ClickException as error:
        error.show()
        status = ExitStatus.USAGE
    except GranuleError as error:
        click.echo(f"granule: {error}", err=True)
        status = error.exit_status
    except (KeyboardInterrupt, click.Abort):
        click.echo("granule: interrupted; guests and builds were ended", err=True)
        status = ExitStatus.INTERRUPTED
    except _Terminated:
        click.echo("granule: terminated; guests and builds were ended", err=True)
        status = ExitStatus.TERMINATED
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has gone; what is left of it must not raise again at exit.
            sys.stdout = None
            status = ExitStatus.FAILED
        else:
            click.echo(f"granule: the system refused: {error}", err=True)
            status = ExitStatus.INFRA
    sys.exit(status)
