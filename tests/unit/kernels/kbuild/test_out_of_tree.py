"""Tests of harness.kernels.kbuild.out_of_tree, with a make that is a shell script."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.build.modules import Wanted, module_entries
from harness.build.toolchain import Toolchain
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.out_of_tree import apply_patch, build_modules, with_modules
from harness.kernels.kernel import Kernel

OLD = "one\ntwo\nthree\n"
PATCH = "--- a/dir/file.c\n+++ b/dir/file.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
TOOLS = Toolchain(cc=("gcc-of-ours",), prefix="aarch64-", version="1")


def kernel(modules: Path | None) -> Kernel:
    return Kernel(
        name="k", image=Path("Image"), page_size=None, release="6.12-x", sha256="", origin="Debian",
        modules=modules,
    )  # fmt: skip


def test_a_patch(tmp_path: Path) -> None:
    """A patch is applied; one that does not fit, or is there already, changes nothing and says why."""
    (tmp_path / "dir").mkdir()
    file = tmp_path / "dir/file.c"
    file.write_text(OLD)
    patch = tmp_path / "x.patch"
    patch.write_text(PATCH)
    apply_patch(tmp_path, patch)
    assert file.read_text() == "one\n2\nthree\n"
    with pytest.raises(UsageError, match=r"x.patch does not apply"):
        apply_patch(tmp_path, patch)
    file.write_text("one\ntwo and a half\nthree\n")
    with pytest.raises(UsageError, match="does not apply"):
        apply_patch(tmp_path, patch)
    assert file.read_text() == "one\ntwo and a half\nthree\n"
    assert sorted(path.name for path in (tmp_path / "dir").iterdir()) == ["file.c"]


def test_modules_in_place_of_others(tmp_path: Path) -> None:
    """The rebuilt module hides the kernel's, and all others are still there."""
    own = tmp_path / "own"
    for name in ("hv_vmbus", "loop"):
        path = own / "kernel" / f"{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"own {name}")
    made = tmp_path / "hv_vmbus.ko"
    made.write_text("rebuilt")
    changed = with_modules(kernel(own), [made], tmp_path / "new")
    assert changed.modules == tmp_path / "new/6.12-x"
    found = {
        path.relative_to(changed.modules).as_posix(): path.read_text()
        for path in changed.modules.rglob("*.ko")
    }
    assert found == {
        "kernel/hv_vmbus.ko": "own hv_vmbus", "kernel/loop.ko": "own loop", "updates/hv_vmbus.ko": "rebuilt",
    }  # fmt: skip
    with pytest.raises(UsageError, match="is not a kernel module"):
        module_entries(changed.modules, "6.12-x", Wanted(boot=(), demand=("hv_vmbus",)))
    with pytest.raises(UsageError, match="no modules that could be replaced"):
        with_modules(kernel(None), [], tmp_path / "other")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `make` and a compiler first on PATH; what make was asked is in `asked`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    compiler = programs / "gcc-of-ours"
    compiler.write_text('#!/bin/sh\ncase "$*" in *min-function*) exit 1;; esac\n')
    script = programs / "make"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\necho "  CC [M]  /x/a.o"\ncat {tmp_path}/said\n'
        f"exit $(cat {tmp_path}/status)\n"
    )
    for program in (compiler, script):
        program.chmod(0o755)
    (tmp_path / "said").write_text("")
    (tmp_path / "status").write_text("0")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return script


def test_what_make_is_asked(make: Path, tmp_path: Path) -> None:
    """Paths, compiler, release and the flag that an older compiler lacks; no module built is an error."""
    work = tmp_path / "work"
    work.mkdir()
    steps: list[str] = []
    with pytest.raises(InfraError, match=r"0 modules were built, for None, where 6.12-x runs"):
        build_modules(
            tmp_path / "tree", work, "6.12-x", TOOLS, ccache_dir=tmp_path, includes=("include",),
            progress=lambda _done, _total, what: steps.append(what),
        )  # fmt: skip
    asked = (tmp_path / "asked").read_text().splitlines()
    for word in (
        f"M={work}", "ARCH=arm64", "CROSS_COMPILE=aarch64-", "CC=gcc-of-ours", "KERNELRELEASE=6.12-x",
        f"NOSTDINC_FLAGS=-I{work}/include", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",
        "CC_FLAGS_FTRACE=", "modules",
    ):  # fmt: skip
        assert word in asked
    assert steps == ["CC [M] a.o"]


def test_a_build_that_fails(make: Path, tmp_path: Path) -> None:
    """The compiler's errors are said."""
    (tmp_path / "status").write_text("2")
    (tmp_path / "said").write_text("a.c:3:5: error: no such thing\nmake: *** [all] Error 1\n")
    with pytest.raises(InfraError, match=r"could not be built: a.c:3:5: error: no such thing"):
        build_modules(tmp_path, tmp_path, "6.12-x", TOOLS, ccache_dir=tmp_path)
