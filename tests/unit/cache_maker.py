"""A second process for test_cache.py: makes an entry, telling on stdout what it does.

usage: cache_maker.py ROOT make|hold|work
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from harness.cache import Cache


def say(what: str) -> None:
    """One line, at once."""
    print(what, flush=True)


def build(directory: Path) -> None:
    """Makes the entry once the parent has said go."""
    (directory / "half").write_text("half")
    say("building")
    sys.stdin.readline()
    (directory / "made-by").write_text("child")


def main() -> None:
    """What the parent asked for."""
    root, what = sys.argv[1:]
    with Cache(Path(root), waiting=say) as cache:
        if what == "work":
            with cache.workdir("tree"):
                say("building")
                sys.stdin.readline()
        else:
            say(str(cache.make("things", "one", build)))
            if what == "hold":
                signal.pause()


main()
