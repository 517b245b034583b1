"""From objects to options, through makefiles written as the kernel's are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.weed.makefiles import Makefiles

Write = Callable[[str, str], Path]
ALL = dict.fromkeys(("FOO", "BAR", "BAZ", "NET", "SUB", "DEBUG"), "y")


@pytest.fixture
def top(write: Write) -> Write:
    """A tree with drivers/ under obj-y and net/ under an option."""
    write("Kbuild", "obj-y += drivers/\nobj-$(CONFIG_NET) += net/\nobj-y += $(ARCH_LIB)\n")
    write("drivers/Makefile", "obj-y += a/\n")
    return write


def options(tree: Path, name: str, config: dict[str, str] | None = None) -> set[str]:
    return set(Makefiles(tree).options_of(name, ALL if config is None else config))


@pytest.mark.parametrize(
    ("makefile", "expected"),
    [
        ("obj-$(CONFIG_FOO) += x.o", {"FOO"}),
        ("obj-${CONFIG_FOO} := x.o", {"FOO"}),
        ("obj-$(CONFIG_FOO) += w.o \\\n\tv.o \\\n  x.o", {"FOO"}),
        ("lib-$(CONFIG_FOO) += x.o # lib", {"FOO"}),
        ("obj-$(subst m,y,$(CONFIG_FOO)) += x.o", {"FOO"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-y := w.o x.o", {"FOO"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-objs += x.o", {"FOO"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-$(CONFIG_BAR) += x.o", {"BAR"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-y += $(foo-parts)\nfoo-parts := x.o", {"FOO"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-y += $(foo-core-y)\nfoo-core-$(CONFIG_BAR) := x.o", {"BAR"}),
        ("obj-$(CONFIG_FOO) += foo.o\nfoo-y += $(addprefix ./, $(addsuffix .o, ../a/x))", {"FOO"}),
        ("ifdef CONFIG_FOO\nobj-y += x.o\nendif", {"FOO"}),
        ("ifeq ($(CONFIG_FOO),y)\n\tobj-y += x.o\nendif", {"FOO"}),
        ("ifneq ($(CONFIG_FOO),)\nobj-y += x.o\nendif", {"FOO"}),
        ("ifneq ($(CONFIG_FOO)$(CONFIG_BAR),)\nobj-y += x.o\nendif", {"FOO", "BAR"}),
        ("ifeq ($(CONFIG_OFF),y)\nobj-y += w.o\nelse ifeq ($(CONFIG_FOO),y)\nobj-y += x.o\nendif", {"FOO"}),
        ("ifdef CONFIG_FOO\nobj-$(CONFIG_BAR) += x.o\nendif", {"BAR"}),
        ("ifeq ($(CONFIG_FOO),m)\nobj-y += x.o\nendif\nobj-$(CONFIG_BAR) += x.o", {"BAR"}),
        ("obj-$(CONFIG_FOO) += x.o\nobj-$(CONFIG_BAR) += x.o\nobj-$(CONFIG_OFF) += x.o", {"FOO", "BAR"}),
        ("ifeq ($(KCC_IS),gcc)\nobj-$(CONFIG_FOO) += x.o\nendif", {"FOO"}),
        ("CFLAGS_x.o := -O1\nccflags-$(CONFIG_BAR) += -DX\nobj-$(CONFIG_FOO) += x.o", {"FOO"}),
        ("define rule\nobj-$(CONFIG_BAR) += x.o\nendef\nobj-$(CONFIG_FOO) += x.o", {"FOO"}),
        ("obj-y += x.o", set()),
        ("ifndef CONFIG_OFF\nobj-y += x.o\nendif", set()),
        ("obj-y += x.o\nobj-$(CONFIG_FOO) += x.o", set()),
    ],
)
def test_rules(top: Write, tree: Path, makefile: str, expected: set[str]) -> None:
    """Each way to write a rule leads to the option nearest to the object; of several ways all must end."""
    top("drivers/a/Makefile", makefile + "\n")
    name = "drivers/a/./../a/x.o" if "addprefix" in makefile else "drivers/a/x.o"
    assert options(tree, name) == expected


def test_directory_of_the_object(top: Write, tree: Path) -> None:
    """An object without an option of its own has its directory's, upwards; a rule may skip levels."""
    top("net/Makefile", "obj-y += core/ sub/deep/\nobj-$(CONFIG_SUB) += sub/\n")
    top("net/core/Makefile", "obj-y += x.o\n")
    top("net/sub/Makefile", "obj-y += x.o\n")
    top("net/sub/deep/Makefile", "obj-y += x.o\n")
    assert options(tree, "net/core/x.o") == {"NET"}
    assert options(tree, "net/sub/x.o") == {"SUB"}
    assert options(tree, "net/sub/deep/x.o") == {"NET"}


def test_object_named_from_above(top: Write, tree: Path) -> None:
    """A makefile that names objects of a directory below it, which has none of its own."""
    top("drivers/a/Makefile", "obj-$(CONFIG_FOO) += foo.o\nfoo-$(CONFIG_BAR) += below/x.o\n")
    assert options(tree, "drivers/a/below/x.o") == {"BAR"}


def test_included_makefile(top: Write, tree: Path) -> None:
    """Rules of included files count, conditions around the include too; none is read outside the tree."""
    (tree.parent / "outside.mk").write_text("obj-$(CONFIG_BAR) += x.o\n")
    top(
        "drivers/a/Makefile",
        "include $(srctree)/../outside.mk\nobj-$(CONFIG_FOO) += foo.o\n"
        "ifdef CONFIG_DEBUG\ninclude $(src)/more/Kbuild\nendif\n",
    )
    top("drivers/a/more/Kbuild", "foo-y += more/x.o\n")
    assert options(tree, "drivers/a/more/x.o") == {"DEBUG"}
    assert options(tree, "drivers/a/x.o") == set()


def test_kbuild_comes_before_makefile(top: Write, tree: Path) -> None:
    """Where both are, kbuild reads Kbuild only."""
    top("drivers/a/Makefile", "obj-$(CONFIG_BAR) += x.o\n")
    top("drivers/a/Kbuild", "obj-$(CONFIG_FOO) += x.o\n")
    assert options(tree, "drivers/a/x.o") == {"FOO"}


def test_object_that_no_makefile_names(write: Write, tree: Path) -> None:
    """It has the option of the directory that kbuild was in, also where the path leads back out of it."""
    write("Kbuild", "obj-y += drivers/\n")
    write("drivers/Makefile", "obj-$(CONFIG_FOO) += gpu/\n")
    write("drivers/gpu/Makefile", "gpu-y += $(shell ls)\n")
    assert options(tree, "drivers/gpu/made.o") == {"FOO"}
    assert options(tree, "drivers/gpu/../display/dc.o") == {"FOO"}


def test_outward_passes_what_was_given_up(top: Write, tree: Path) -> None:
    """When the nearest option does not go, the next one on the way to the top is told."""
    top("net/Makefile", "obj-$(CONFIG_SUB) += sub/\n")
    top("net/sub/Makefile", "obj-$(CONFIG_FOO) += foo.o\nfoo-$(CONFIG_BAR) += x.o\n")
    makefiles = Makefiles(tree)
    given_up: frozenset[str] = frozenset()
    for expected in ("BAR", "FOO", "SUB", "NET"):
        found = makefiles.outward("net/sub/x.o", ALL, given_up)
        assert found == {expected}
        given_up |= found
    assert makefiles.outward("net/sub/x.o", ALL, given_up) == frozenset()


def test_nothing_is_run(top: Write, tree: Path, tmp_path: Path) -> None:
    """A makefile's $(shell …) is never executed."""
    top("drivers/a/Makefile", f"X := $(shell touch {tmp_path}/ran)\nobj-$(CONFIG_FOO) += x.o\n")
    assert options(tree, "drivers/a/x.o") == {"FOO"}
    assert not (tmp_path / "ran").exists()


def test_hostile_makefiles_end(top: Write, tree: Path) -> None:
    """Variables, includes and directories that lead in circles, and endless nesting, end."""
    top("drivers/a/Makefile", "a-y := $(b-y)\nb-y := $(a-y) x.o\ninclude $(src)/Makefile\n" + "$(" * 5000)
    assert options(tree, "drivers/a/x.o") == set()


def test_lookups_are_bounded(top: Write, tree: Path) -> None:
    """A makefile with 2^40 ways from an object to nowhere is given up, not followed."""
    rules = ["a0 := x.o", "b0 := x.o"]
    for level in range(1, 41):
        rules += [f"{name}{level} := $(a{level - 1}) $(b{level - 1})" for name in "ab"]
    top("drivers/a/Makefile", "\n".join(rules) + "\n")
    assert options(tree, "drivers/a/x.o") == set()


@pytest.mark.parametrize("name", ["/somewhere/else/x.o", "x.o", "../x.o", "", "/"])
def test_objects_elsewhere_have_no_option(top: Write, tree: Path, name: str) -> None:
    """A name that is not below the tree, or is none, ends in no option."""
    assert options(tree, name) == set()
