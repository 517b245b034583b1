"""A failed build in a few rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.weed.failures import Kind, Row
from harness.weed.log_summary import summarise

LOG = """\
  CC      drivers/foo.o
../drivers/foo.c:1:1: error: planted
make[3]: *** [../scripts/Makefile.build:229: drivers/foo.o] Error 1
  CC      mm/core.o
../mm/core.c:2:2: error: of the core
make[3]: *** [../scripts/Makefile.build:229: mm/core.o] Error 1
"""


def test_rows_have_the_option_of_each_file(
    tree: Path, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """The makefiles of the tree say which option had a file built; core code has none."""
    write("Kbuild", "obj-y += drivers/ mm/\n")
    write("drivers/Makefile", "obj-$(CONFIG_FOO) += foo.o\n")
    write("mm/Makefile", "obj-y += core.o\n")
    log = tmp_path / "log"
    log.write_text(LOG)
    assert summarise(log, tree, tmp_path, {"FOO": "m"}) == (
        Row(
            file="drivers/foo.c",
            option="FOO",
            error="../drivers/foo.c:1:1: error: planted",
            kind=Kind.COMPILE,
            objects=1,
        ),
        Row(
            file="mm/core.c",
            option="",
            error="../mm/core.c:2:2: error: of the core",
            kind=Kind.COMPILE,
            objects=1,
        ),
    )
