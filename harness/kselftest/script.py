"""Reads a collection's script (run_vmtests.sh): which tests there are, in which category, by which command.

The script belongs to the kernel under test, so that its version's tests are what runs; what a test needs, and
what it is known to fail, is ours to say: `harness.kselftest.facts`. Read are the lines

    CATEGORY="hugetlb" run_test ./hugepage-mmap

with variables that stand for a program put in place; the script itself never runs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

__all__ = ["Listed", "read_script"]

SCRIPT_LIMIT_BYTES = 1 << 20

_RUN = re.compile(r"""\s*CATEGORY=["']?(?P<category>[\w-]+)["']?\s+run_test\s+(?P<command>\S.*?)\s*""")
_PROGRAM_VARIABLE = re.compile(r"\s*(?P<name>\w+)=(?P<program>\./[\w.-]+)\s*")
_FUNCTION = re.compile(r"\w+\s*\(\)\s*\{?\s*")
_DESTRUCTIVE = re.compile(r"(?P<indent>\s*)if\s+\$\{?RUN_DESTRUCTIVE\}?\s*;\s*then\s*")
_WRAPPERS = re.compile(r"(?:sudo\s+-u\s+\S+\s+|bash\s+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One test of a script."""

    category: str
    command: str
    """As the script runs it, in the suite's directory: `bash ./test_hmm.sh smoke`."""
    is_destructive: bool = False
    """It runs only where the script is asked for such (-d): it poisons memory, say."""
    repetition: int = 1
    """How often that command has come up to here."""

    @property
    def title(self) -> str:
        """The command as the script's own report names it: `test_hmm.sh smoke`."""
        plain = _WRAPPERS.sub("", self.command, count=1).removeprefix("./")
        return plain if self.repetition == 1 else f"{plain} ({self.repetition})"

    @property
    def program(self) -> str:
        """The file it runs: `test_hmm.sh`."""
        return self.title.split()[0]


def read_script(text: str) -> tuple[Listed, ...]:
    """The tests of a script in its order, but for those inside functions, which are for other ways to run it.

    A script in which none is found gives none: whoever asks says what that means.
    """
    found: list[Listed] = []
    counts: Counter[str] = Counter()
    variables: dict[str, str] = {}
    in_function = False
    destructive: str | None = None
    for line in text[:SCRIPT_LIMIT_BYTES].splitlines():
        if in_function:
            in_function = line.rstrip() != "}"
            continue
        if _FUNCTION.fullmatch(line):
            in_function = True
        elif guard := _DESTRUCTIVE.fullmatch(line):
            destructive = guard["indent"]
        elif destructive is not None and line.rstrip() == f"{destructive}fi":
            destructive = None
        elif variable := _PROGRAM_VARIABLE.fullmatch(line):
            variables[variable["name"]] = variable["program"]
        elif run := _RUN.fullmatch(line):
            command = _with_programs(run["command"], variables)
            counts[command] += 1
            found.append(
                Listed(
                    category=run["category"],
                    command=command,
                    is_destructive=destructive is not None,
                    repetition=counts[command],
                )
            )
    return tuple(found)


def _with_programs(command: str, variables: dict[str, str]) -> str:
    for name, program in variables.items():
        command = re.sub(rf"\$(?:\{{{name}\}}|{name}\b)", program, command)
    return command
