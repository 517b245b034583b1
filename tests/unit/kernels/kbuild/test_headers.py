"""Tests of harness.kernels.kbuild.headers, on packages laid out as Debian's that hold next to nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.headers import headers_tree
from harness.kernels.kernel import Kernel

RELEASE = "6.12.1+deb13-arm64-16k"
ABI = "6.12.1+deb13"


def kernel(release: str = RELEASE, origin: str = "Debian trixie: x") -> Kernel:
    return Kernel(name="k", image=Path("Image"), page_size=None, release=release, sha256="", origin=origin)


def add(cache: Cache, kind: str, package: str, files: dict[str, str]) -> None:
    def build(directory: Path) -> None:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    cache.make(kind, f"{package}_1_abc", build)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache with the packages of one kernel, whose modpost wants a newer C library."""
    made = Cache(tmp_path / "cache")
    own, common = f"usr/src/linux-headers-{RELEASE}", f"usr/src/linux-headers-{ABI}-common"
    add(made, "packages", f"linux-headers-{RELEASE}", {
        f"{own}/.config": "CONFIG_X=y", f"{own}/Makefile": "include /usr/src/elsewhere", f"{own}/vmlinux": "",
        f"{own}/.kernelvariables": "CC = gcc-99", f"{own}/include/generated/utsrelease.h": "release",
    })  # fmt: skip
    add(made, "packages", f"linux-headers-{ABI}-common", {
        f"{common}/Makefile": "all:\n\techo $(CURDIR)\n", f"{common}/arch/arm64/Makefile": "",
        f"{common}/include/linux/hyperv.h": "header",
    })  # fmt: skip
    kbuild = f"usr/lib/linux-kbuild-{ABI}"
    old = '#!/bin/sh\necho "libc.so.6: version \\`GLIBC_2.99\' not found" >&2\nexit 1\n'
    add(made, "host-packages", f"linux-kbuild-{ABI}", {
        **{f"{kbuild}/scripts/{name}": "#!/bin/sh\n" for name in (
            "basic/fixdep", "genksyms/genksyms", "mod/modpost")},
        f"{kbuild}/scripts/mod/modpost.real-lsb-64": old, f"{kbuild}/tools/x": "",
    })  # fmt: skip
    add(made, "host-packages", "libc6", {
        "usr/lib/x/ld-linux-x.so.2": '#!/bin/sh\nshift 2\necho "with libc: $*"\n', "usr/lib/x/libc.so.6": "",
    })  # fmt: skip
    return made


def test_a_tree(cache: Cache) -> None:
    """One directory to start make in, which names nothing outside of it, without Debian's compiler."""
    tree = headers_tree(cache, kernel(), offline=True, machine="x86_64")
    assert (tree / "Makefile").read_text() == "include ../common/Makefile\n"
    assert (tree / ".config").read_text() == "CONFIG_X=y"
    assert (tree / "include/generated/utsrelease.h").exists()
    assert not (tree / ".kernelvariables").exists()
    assert not (tree / "vmlinux").exists()
    assert (tree / "../common/include/linux/hyperv.h").read_text() == "header"
    for name in ("tree", "common"):
        assert (tree.parent / name / "scripts/basic/fixdep").exists()
    assert headers_tree(cache, kernel(), offline=True, machine="x86_64") == tree


def test_a_program_of_a_newer_debian(cache: Cache) -> None:
    """It is run with the C library of its own suite; those that run are left as they are."""
    scripts = headers_tree(cache, kernel(), offline=True, machine="x86_64") / "scripts"
    ran = subprocess.run([scripts / "mod/modpost.real-lsb-64", "a b"], capture_output=True, check=True)
    assert ran.stdout.decode().split() == [
        "with",
        "libc:",
        f"{scripts}/mod/modpost.real-lsb-64.elf",
        "a",
        "b",
    ]
    assert not (scripts / "basic/fixdep.elf").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (kernel("6.12.1"), "Debian's own kernels only"),
        (kernel(origin="built from a tree"), "Debian's own kernels only"),
    ],
)
def test_other_kernels(cache: Cache, asked: Kernel, said: str) -> None:
    """Only Debian's kernels have headers packages."""
    with pytest.raises(UsageError, match=said):
        headers_tree(cache, asked, offline=True)


def test_offline(cache: Cache) -> None:
    """Without network, what is not cached is named; and so is a machine without kbuild's programs."""
    with pytest.raises(InfraError, match=r"linux-headers-6.12.2"):
        headers_tree(cache, kernel("6.12.2+deb13-arm64"), offline=True, machine="x86_64")
    with pytest.raises(InfraError, match="not for riscv64"):
        headers_tree(cache, kernel(), offline=True, machine="riscv64")
    cache.discard("host-packages", "libc6_1_abc")
    with pytest.raises(InfraError, match="package libc6 for amd64 is not in the cache"):
        headers_tree(cache, kernel(), offline=True, machine="x86_64")
