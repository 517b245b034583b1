"""Finding a compiler, on machines of both kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.build.toolchain import Toolchain, require_programs
from harness.errors import ToolMissing

EVERYTHING = (
    "gcc",
    "ld",
    "aarch64-linux-gnu-gcc",
    "aarch64-linux-gnu-ld",
    "make",
    "flex",
    "bison",
    "bc",
    "perl",
)


def having(*programs: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in programs else None


@pytest.mark.parametrize(("machine", "prefix"), [("x86_64", "aarch64-linux-gnu-"), ("aarch64", "")])
def test_cross_or_native(machine: str, prefix: str) -> None:
    """An arm64 machine uses its own compiler, any other the cross compiler."""
    found = Toolchain.find(machine=machine, which=having(*EVERYTHING), version_of=lambda cc: f"{cc} 12")
    assert (found.cc, found.prefix, found.version) == ((f"{prefix}gcc",), prefix, f"{prefix}gcc 12")
    assert found.tool("strip") == f"{prefix}strip"
    assert found.ccache is None


def test_ccache_is_seen() -> None:
    """ccache is used where it is installed."""
    found = Toolchain.find(
        machine="aarch64", which=having(*EVERYTHING, "ccache"), version_of=lambda _cc: "12"
    )
    assert found.ccache == "/usr/bin/ccache"


@pytest.mark.parametrize(
    ("machine", "programs", "package"),
    [
        ("x86_64", ("gcc", "ld"), "gcc-aarch64-linux-gnu"),
        ("x86_64", ("aarch64-linux-gnu-gcc",), "binutils-aarch64-linux-gnu"),
        ("aarch64", (), "gcc"),
        ("aarch64", ("gcc",), "binutils"),
    ],
)
def test_package_of_what_is_absent(machine: str, programs: tuple[str, ...], package: str) -> None:
    """The error names Debian's package of the program that is absent."""
    with pytest.raises(ToolMissing) as caught:
        Toolchain.find(machine=machine, which=having(*programs), version_of=lambda _cc: "")
    assert caught.value.package == package


def test_programs_of_a_kernel_build() -> None:
    """A missing flex is named before make stumbles over it."""
    require_programs(having(*EVERYTHING))
    with pytest.raises(ToolMissing, match="apt-get install flex"):
        require_programs(having(*(name for name in EVERYTHING if name != "flex")))
