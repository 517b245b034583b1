"""`granule kernels size` on real kernels, held against stat, binutils and the guests' own words."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cache import Cache
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore

MAIN = "import sys; sys.argv[0] = 'granule'; from harness.cli import main; main()"
KERNELS = ("debian-4k", "debian-16k", "trimmed-64k")


def _granule(*words: str | Path) -> str:
    done = subprocess.run(
        (sys.executable, "-c", MAIN, *map(str, words)),
        capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip
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
    """By symbols, text, rodata, init and data are the Image, whole."""
    (kernel,) = json.loads(_granule("kernels", "size", name, "--no-boot", "--json"))["kernels"]
    parts = kernel["extents"]
    whole = sum(parts[f"{part}_bytes"] for part in ("text", "rodata", "init", "data"))
    assert whole == kernel["image_bytes"]


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
    (kernel,) = json.loads(_granule("kernels", "size", name, "--no-boot", "--json"))["kernels"]
    assert kernel["sections"] == {"text_bytes": text, "data_bytes": data, "bss_bytes": bss}
    assert kernel["gaps_bytes"] == kernel["image_bytes"] - text - data


def test_the_wrong_vmlinux(tmp_path: Path) -> None:
    """A kernel's vmlinux is refused for another's Image."""
    kernel, other = _kernel("trimmed-64k"), _kernel("debian-4k")
    done = subprocess.run(
        (sys.executable, "-c", MAIN, "kernels", "size", other.image, "--vmlinux", str(kernel.vmlinux)),
        capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "belongs to none of the kernels" in done.stderr
