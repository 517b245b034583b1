"""A kernel of each step, with a make that only pretends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.configs import Configuration, Fragment
from harness.kernels.longrun import Limits, quiet
from harness.kernels.trees.origin import find_tree
from harness.kernels.trees.patches import Patch
from harness.series.building import KernelBuilder, tree_fingerprint
from harness.series.values import Outlook, Warning_
from harness.spec import PageSize

WARNING = "init/main.c:7: warning: unused\n"


def change(name: str, text: str, *, old: str = "") -> Patch:
    """A patch that makes a file of one line, or changes it."""
    if old:
        diff = f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{old}\n+{text}\n"
    else:
        diff = f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{text}\n"
    return Patch(name="x", subject=f"{name}: {text}", author="", body="", diff=diff.encode(), files=(name,))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as find_tree wants it."""
    path = tmp_path / "linux"
    for name in ("arch/arm64/Makefile", "Kconfig", "init/main.c"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("start\n")
    return path


Make = Callable[..., KernelBuilder]


@pytest.fixture
def make(fakes: Path, cache: Cache, tree: Path, make_image: Callable[..., bytes]) -> Iterator[Make]:
    """Makes a builder for a series."""
    (fakes / "image").write_bytes(make_image(0xA))
    builders: list[KernelBuilder] = []

    def made(*patches: Patch, option: str = "CONFIG_MODULES=y\n", **more: object) -> KernelBuilder:
        base = find_tree(cache, str(tree), progress=quiet)
        configuration = Configuration(fragments=(Fragment("tiny", option),))
        builder = KernelBuilder(
            cache=cache,
            toolchain=Toolchain(cc=("gcc",), prefix="", version="12"),
            base=base,
            patches=patches,
            configurations={PageSize.K4: configuration, None: configuration},
            progress=quiet,
            **more,  # type: ignore[arg-type]
        )
        builders.append(builder)
        return builder

    yield made
    for builder in builders:
        builder.__exit__(None, None, None)


def test_base_then_patches(make: Make, tree: Path) -> None:
    """Each step is built with its patches, from a copy, and the tree of the user's stays as it was."""
    builder = make(change("a.c", "1"), change("a.c", "2", old="1"))
    steps = [builder.build(step, PageSize.K4) for step in (0, 2, 1)]
    assert [one.outlook for one in steps] == [Outlook.BUILT] * 3
    assert steps[0].objects[-3:] == ("init/main.o", "drivers/net/dummy.o", "vmlinux")
    assert builder._tree is not None
    assert (builder._tree.path / "a.c").read_text() == "1\n"
    assert sorted(path.name for path in tree.iterdir()) == ["Kconfig", "arch", "init"]


def test_warnings_of_a_step(make: Make) -> None:
    """A warning comes with the patch that brings it, and with paths from the top of the tree."""
    builder = make(change("warns", WARNING.strip()))
    assert builder.build(0, PageSize.K4).warnings == ()
    assert builder.build(1, PageSize.K4).warnings == (Warning_("init/main.c", 7, "unused"),)


def test_a_file_that_no_object_is_made_of(make: Make) -> None:
    """A source file that the configuration leaves out is told; one that is compiled is not."""
    builder = make(change("drivers/x.c", "1"), change("init/main.c", "2", old="start"))
    assert builder.build(1, PageSize.K4).left_out == ("drivers/x.c",)
    assert builder.build(2, PageSize.K4).left_out == ()


def test_failed_build(make: Make, fakes: Path) -> None:
    """The first errors are kept, with paths from the top of the tree."""
    builder = make(change("a.c", "1"))
    builder.build(0, PageSize.K4)
    assert builder._tree is not None
    path = builder._at(1).path
    (fakes / "fails").write_text(f"{path}/mm/a.c:3:1: error: call to __compiletime_assert_1\n")
    built = builder.build(1, PageSize.K4)
    assert built.outlook is Outlook.FAILED
    assert built.errors[0].startswith("mm/a.c:3:1: error: call")


@pytest.mark.parametrize(
    "said",
    ["cc1: fatal error: x.s: No space left on device", "x.c:1: error: Killed signal terminated program cc1"],
)
def test_the_host_is_not_the_patch(make: Make, fakes: Path, said: str) -> None:
    """A full disk or a compiler that was killed is no verdict on a patch."""
    (fakes / "fails").write_text(f"{said}\n")
    with pytest.raises(InfraError, match="not the patch's to fail"):
        make(change("a.c", "1")).build(1, PageSize.K4)


def test_a_build_that_goes_on_for_ever(make: Make, fakes: Path) -> None:
    """It is ended, and that is how it failed."""
    (fakes / "hangs").touch()
    built = make(change("a.c", "1"), limits=Limits(seconds=2)).build(1, PageSize.K4)
    assert built.errors == ("it did not end within 2 s",)


def test_options_that_vanish(make: Make, fakes: Path) -> None:
    """A patch after which an option that was asked for is lost fails to build, and says which."""
    builder = make(change("a.c", "1"))
    builder.build(0, PageSize.K4)
    (fakes / "loses").write_text("MODULES")
    built = builder.build(1, PageSize.K4)
    assert built.outlook is Outlook.FAILED
    assert "CONFIG_MODULES: wanted y, found n" in built.errors[0]


def test_a_base_that_lacks_an_option(make: Make, fakes: Path) -> None:
    """For the base that is a mistake of who asks."""
    (fakes / "loses").write_text("MODULES")
    with pytest.raises(UsageError, match="did not survive"):
        make(change("a.c", "1")).build(0, PageSize.K4)


def test_no_boot_time_kernel(make: Make) -> None:
    """A tree that does not know them has none, which is no failure."""
    assert make().build(0, None).outlook is Outlook.ABSENT


def test_an_interrupted_build_keeps_its_warnings(make: Make, cache: Cache) -> None:
    """What a build that was killed had printed counts: make does not compile those objects again."""
    builder = make(change("a.c", "1"))
    builder.build(0, PageSize.K4)
    (output,) = (path for path in (cache.root / "work").iterdir() if path.name.startswith("build-"))
    (output / "kernel").mkdir()
    (output / "kernel/b.o").touch()
    (output / "granule-build.log").write_text("  CC      kernel/b.o\nkernel/b.c:2: warning: odd\n")
    assert Warning_("kernel/b.c", 2, "odd") in builder.build(1, PageSize.K4).warnings


def test_an_object_that_no_log_tells_of_is_made_anew(make: Make, cache: Cache) -> None:
    """What was compiled when a build was killed and is not in its log may have warned: it is made again."""
    builder = make(change("a.c", "1"))
    builder.build(0, PageSize.K4)
    (output,) = (path for path in (cache.root / "work").iterdir() if path.name.startswith("build-"))
    (output / "kernel").mkdir()
    told, untold = output / "kernel/told.o", output / "kernel/untold.o"
    told.touch()
    log = output / "granule-build.log"
    log.write_text("  CC      kernel/told.o\n")
    untold.touch()
    os.utime(untold, ns=(log.stat().st_mtime_ns + 1,) * 2)
    builder.build(1, PageSize.K4)
    assert told.exists()
    assert not untold.exists()


def test_keys(make: Make, tree: Path, cache: Cache) -> None:
    """A step's key depends on its patches and those before it, and not on those that follow."""
    one, two, other = change("a.c", "1"), change("b.c", "2"), change("a.c", "3")
    assert make(one).key(1, PageSize.K4) == make(one, two).key(1, PageSize.K4)
    assert make(one, two).key(2, PageSize.K4) != make(other, two).key(2, PageSize.K4)
    assert make(one).key(1, PageSize.K4) != make(one, option="CONFIG_NET=y\n").key(1, PageSize.K4)
    base = find_tree(cache, str(tree), progress=quiet)
    before = tree_fingerprint(base, cache.root)
    assert before == tree_fingerprint(base, cache.root)
    (tree / "init/main.c").write_text("changed\n")
    assert before != tree_fingerprint(base, cache.root)
