"""`granule kernels size` on real kernels, held against stat, binutils and the guests' own words."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cache import Cache
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"
QUICK = ("--no-boot", "--json")
KERNELS = ("debian-4k", "debian-16k", "trimmed-64k")


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", MAIN, *map(str, words)),
        capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _granule(*words: str | Path) -> str:
    done = _run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _kernel(name: str) -> Kernel:
    with Cache() as cache:
        return KernelStore(cache, offline=True).get(name)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_and_its_guest(name: str) -> None:
    """The Image is as long as stat says; the guest's memory is what another guest of it says of its own."""
    found: dict[str, Any] = json.loads(_granule("kernels", "size", name, "--json"))
    ((kernel,), (guest,)) = found["kernels"], found["guests"]
    assert kernel["image_bytes"] == _kernel(name).image.stat().st_size
    assert 0 < kernel["compressed_bytes"]["zstd -19"] < kernel["compressed_bytes"]["gzip -9"]
    assert kernel["compressed_bytes"]["gzip -9"] < kernel["image_bytes"]
    # In memory: the Image and .bss at least.
    assert kernel["ram_bytes"] > kernel["image_bytes"] + kernel["extents"]["bss_bytes"]

    said = _granule("boot", "--kernel", name, "--", "cat /proc/meminfo; dmesg | grep 'Memory: '")
    mem_total = re.search(r"^MemTotal: +(\d+) kB$", said, re.MULTILINE)
    assert mem_total is not None
    assert guest["mem_total_kib"] == int(mem_total[1])
    assert guest["lost_kib"] == guest["given_kib"] - int(mem_total[1])
    line = guest["memory_line"]
    assert f"Memory: {line['available_kib']}K/{line['physical_kib']}K available" in said
    assert f"{line['init_kib']}K init, {line['bss_kib']}K bss, {line['reserved_kib']}K reserved" in said
    # All of it is known to the kernel, and init at least has come back since the line was printed.
    assert line["physical_kib"] == guest["given_kib"]
    assert guest["lost_kib"] <= line["reserved_kib"] - line["init_kib"]
    assert guest["other_kib"] > 0


@pytest.mark.parametrize("name", KERNELS)
def test_parts_of_the_image(name: str) -> None:
    """By symbols, text, rodata, init and data are the Image, whole, but for a signature at its end."""
    (kernel,) = json.loads(_granule("kernels", "size", name, *QUICK))["kernels"]
    parts = kernel["extents"]
    whole = sum(parts[f"{part}_bytes"] for part in ("text", "rodata", "init", "data"))
    assert whole == kernel["image_bytes"] - _signature_bytes(_kernel(name).image)


def _signature_bytes(image: Path) -> int:
    """Length of the PE certificate table, which Debian's kernels are signed with (PE format)."""
    head = image.read_bytes()[:4096]
    if head[:2] != b"MZ":
        return 0
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    _, size_bytes = struct.unpack_from("<II", head, pe + 24 + 112 + 4 * 8)
    return int(size_bytes)


@pytest.mark.parametrize("name", ["trimmed-64k"])
def test_sections_as_binutils_counts(name: str) -> None:
    """Text, data and bss of a kernel that has a vmlinux are what `size` prints of it."""
    program = shutil.which("aarch64-linux-gnu-size") or shutil.which("size")
    if program is None:
        pytest.skip("no `size` to compare with: apt-get install binutils")
    vmlinux = _kernel(name).vmlinux
    assert vmlinux is not None
    done = subprocess.run((program, vmlinux), capture_output=True, text=True, check=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    (kernel,) = json.loads(_granule("kernels", "size", name, *QUICK))["kernels"]
    assert kernel["sections"] == {"text_bytes": text, "data_bytes": data, "bss_bytes": bss}
    assert kernel["gaps_bytes"] == kernel["image_bytes"] - text - data


@pytest.mark.parametrize("name", ["trimmed-64k"])
def test_the_vmlinux_of_another_build(name: str, tmp_path: Path) -> None:
    """A vmlinux is taken for its own Image, and refused for one with another build ID."""
    kernel = _kernel(name)
    assert kernel.vmlinux is not None
    # Of the Image and of the vDSOs in it.
    build_ids = re.compile(rb"(\x14\0\0\0\x03\0\0\0GNU\0).{20}", re.DOTALL)
    other = tmp_path / "Image"
    other.write_bytes(build_ids.sub(lambda found: found[1] + bytes(20), kernel.image.read_bytes()))
    own = json.loads(_granule("kernels", "size", kernel.image, "--vmlinux", kernel.vmlinux, *QUICK))
    assert own["parts_by"] == "sections"
    done = _run("kernels", "size", other, "--vmlinux", kernel.vmlinux, *QUICK)
    assert done.returncode == 2
    assert "belongs to none of the kernels" in done.stderr
