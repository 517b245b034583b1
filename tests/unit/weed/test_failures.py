"""What failed, from the log of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.weed.failures import MAX_FAILURES, Failure, FailureReader, Kind, read_log, summary

TREE = Path("/home/me/linux")
OUTPUT = Path("/home/me/build")


def read(log: str) -> FailureReader:
    reader = FailureReader(TREE, OUTPUT)
    for line in log.splitlines():
        reader.feed(line)
    return reader


COMPILED = """\
  CC      drivers/net/foo.o
/home/me/linux/drivers/net/foo.c: In function 'foo_probe':
/home/me/linux/drivers/net/foo.c:12:5: error: 'FOO_SIZE' undeclared (first use in this function)
/home/me/linux/drivers/net/foo.c:13:5: error: too few arguments
make[4]: *** [/home/me/linux/scripts/Makefile.build:229: drivers/net/foo.o] Error 1
make[3]: *** [/home/me/linux/scripts/Makefile.build:478: drivers/net] Error 2
make[2]: *** [/home/me/linux/Makefile:1937: .] Error 2
make: *** [Makefile:224: __sub-make] Error 2
"""


def test_compile_error() -> None:
    """The object is make's, the reason the compiler's first; directories above it are no failures."""
    (failure,) = read(COMPILED).failures
    assert failure == Failure(
        object="drivers/net/foo.o",
        kind=Kind.COMPILE,
        error="drivers/net/foo.c:12:5: error: 'FOO_SIZE' undeclared (first use in this function)",
        source="drivers/net/foo.c",
    )


def test_error_in_a_header_belongs_to_who_included_it() -> None:
    """The source is the file being compiled, the error stands in the header."""
    log = """\
  CC      fs/a.o
In file included from ../include/linux/mm.h:29,
                 from ../fs/a.c:4:
../include/linux/pgtable.h:9:2: error: #error "PAGE_SIZE is not constant"
make[3]: *** [../scripts/Makefile.build:229: fs/a.o] Error 1
"""
    (failure,) = read(log).failures
    assert (failure.object, failure.source) == ("fs/a.o", "fs/a.c")
    assert failure.error == '../include/linux/pgtable.h:9:2: error: #error "PAGE_SIZE is not constant"'


def test_interleaved_compilers() -> None:
    """Two compilers at once, without -O: each object gets its own file's error, and only that."""
    log = """\
  CC      fs/a.o
  CC      fs/b.o
../fs/b.c:1:1: error: of b
../fs/a.c:1:1: error: of a
make[3]: *** [../scripts/Makefile.build:229: fs/a.o] Error 1
make[3]: *** [../scripts/Makefile.build:229: fs/b.o] Error 1
"""
    said = {failure.object: failure.error for failure in read(log).failures}
    assert said == {"fs/a.o": "../fs/a.c:1:1: error: of a", "fs/b.o": "../fs/b.c:1:1: error: of b"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("cc1: fatal error: drivers/x.c: No such file or directory", None),
        ("drivers/x.S:4: Error: unknown mnemonic `foo'", None),
        ("Traceback: something of a generator's own", None),
    ],
)
def test_other_words_of_a_failing_recipe(line: str, error: str | None) -> None:
    """Assembler, driver and generator errors are told too; the last line where none looks like one."""
    log = f"  AS      drivers/x.o\n{line}\nmake[3]: *** [Makefile:9: drivers/x.o] Error 1\n"
    (failure,) = read(log).failures
    assert (failure.object, failure.kind, failure.error) == ("drivers/x.o", Kind.COMPILE, error or line)


def test_missing_source_file() -> None:
    """An object that make has no rule for, since its source is gone, has failed."""
    log = "make[4]: *** No rule to make target 'drivers/net/foo.o', needed by 'drivers/net/built-in.a'.\n"
    (failure,) = read(log).failures
    assert failure.object == "drivers/net/foo.o"
    assert failure.error.startswith("No rule to make target")


def test_missing_prerequisite_blames_what_needs_it() -> None:
    """Where something else than an object is missing, who needs it has failed."""
    log = "make[3]: *** No rule to make target 'debian/certs.pem', needed by 'certs/x509_list'.\n"
    (failure,) = read(log).failures
    assert failure.object == "certs/x509_list"


LINKED = """\
  LD      .tmp_vmlinux1
aarch64-linux-gnu-ld: drivers/net/foo.o: in function `foo_init':
foo.c:(.init.text+0x1c): undefined reference to `bar_register'
aarch64-linux-gnu-ld: foo.c:(.init.text+0x40): undefined reference to `bar_other'
aarch64-linux-gnu-ld: fs/baz.o:(.data+0x8): undefined reference to `bar_register'
make[2]: *** [/home/me/linux/scripts/Makefile.vmlinux:34: vmlinux] Error 1
"""


def test_undefined_references() -> None:
    """Each object that refers to what is undefined has failed, with all its symbols; vmlinux has not."""
    failures = read(LINKED).failures
    assert [(failure.object, failure.kind, failure.symbols) for failure in failures] == [
        ("drivers/net/foo.o", Kind.LINK, ("bar_register", "bar_other")),
        ("fs/baz.o", Kind.LINK, ("bar_register",)),
    ]
    assert "undefined reference to `bar_register'" in failures[0].error


def test_multiple_definition_in_a_module() -> None:
    """A composite object that does not link: the part that ld names has failed, not the whole as well."""
    log = """\
  LD [M]  drivers/net/foo.o
aarch64-linux-gnu-ld: drivers/net/foo_b.o: in function `same':
foo_b.c:(.text+0x0): multiple definition of `same'; drivers/net/foo_a.o:foo_a.c:(.text+0): first defined here
make[4]: *** [/home/me/linux/scripts/Makefile.build:511: drivers/net/foo.o] Error 1
"""
    assert [(failure.object, failure.kind) for failure in read(log).failures] == [
        ("drivers/net/foo_b.o", Kind.LINK)
    ]


@pytest.mark.parametrize(
    ("line", "name", "symbols"),
    [
        ('ERROR: modpost: "bar" [drivers/net/foo.ko] undefined!', "drivers/net/foo.o", ("bar",)),
        ('WARNING: modpost: "bar" [drivers/net/foo.ko] undefined!', "drivers/net/foo.o", ("bar",)),
        (
            "ERROR: modpost: module foo uses symbol bar from namespace NS, but does not import it.",
            "foo.o",
            ("bar",),
        ),
        ("ERROR: modpost: GPL-incompatible module foo.ko uses GPL-only symbol 'bar'", "foo.o", ()),
        ("ERROR: modpost: missing MODULE_LICENSE() in drivers/net/foo.o", "drivers/net/foo.o", ()),
        (
            "ERROR: modpost: drivers/net/foo: 'x' exported twice. Previous export was in vmlinux",
            "drivers/net/foo.o",
            (),
        ),
    ],
)
def test_modpost(line: str, name: str, symbols: tuple[str, ...]) -> None:
    """Every way in which modpost names a module; a warning about what is undefined counts as an error."""
    (failure,) = read(line).failures
    assert (failure.object, failure.kind, failure.symbols) == (name, Kind.MODPOST, symbols)
    assert failure.error.startswith("ERROR: modpost: ")


def test_other_warnings_of_modpost_are_none_of_ours() -> None:
    """A missing description fails nothing."""
    assert read("WARNING: modpost: missing MODULE_DESCRIPTION() in lib/x.o").failures == ()


def test_section_mismatch_counts_where_it_is_an_error() -> None:
    """Mismatches fail a build only where modpost ends by saying so."""
    warning = "WARNING: modpost: drivers/foo: section mismatch in reference: a+0x0 (section: .text) -> b\n"
    assert read(warning).failures == ()
    (failure,) = read(warning + "ERROR: modpost: Section mismatches detected.\n").failures
    assert (failure.object, failure.kind) == ("drivers/foo.o", Kind.MODPOST)


@pytest.mark.parametrize(
    "line",
    [
        "fs/a.c:1:1: fatal error: error writing to /tmp/cc.s: No space left on device",
        "aarch64-linux-gnu-gcc: fatal error: Killed signal terminated program cc1",
        "virtual memory exhausted: Cannot allocate memory",
    ],
)
def test_machine_at_fault(line: str) -> None:
    """A full disk or memory is told apart from what the tree does."""
    assert read(line).machine_fault == line
    assert read(COMPILED).machine_fault == ""


def test_final_target_without_a_reason() -> None:
    """When vmlinux fails and nothing says why, its own complaint is kept."""
    reader = read("make[2]: *** [scripts/Makefile.vmlinux:34: vmlinux] Error 1\n")
    assert reader.failures == ()
    assert "vmlinux] Error 1" in reader.unexplained
    assert read(LINKED).unexplained == ""


def test_hostile_log_is_bounded() -> None:
    """Escape sequences do not get through, lines are cut, and so is the number of failures."""
    reader = FailureReader(TREE, OUTPUT)
    reader.feed(f"fs/a.c:1:1: error: \x1b[2J{'x' * 100_000}")
    for number in range(MAX_FAILURES + 10):
        reader.feed(f"make[3]: *** [Makefile:1: fs/a{number}.o] Error 1")
    assert len(reader.failures) == MAX_FAILURES
    assert len(reader.failures[0].error) <= 300
    assert "\x1b" not in reader.failures[0].error


def test_summary_has_a_row_for_each_file(tmp_path: Path) -> None:
    """Failures are grouped by file, with the option that had each built."""
    log = tmp_path / "log"
    log.write_text(COMPILED + COMPILED.replace("net/foo.o", "net/foo-again.o") + LINKED)
    rows = summary(read_log(log, TREE, OUTPUT), lambda name: {"FOO"} if "foo" in name else set())
    assert [(row.file, row.option, row.kind, row.objects) for row in rows] == [
        ("drivers/net/foo.c", "FOO", Kind.COMPILE, 2),
        ("drivers/net/foo.o", "FOO", Kind.LINK, 1),
        ("fs/baz.o", "", Kind.LINK, 1),
    ]
