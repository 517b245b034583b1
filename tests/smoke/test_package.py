"""A kernel in a .deb and in a .rpm passes the smoke checks, modules and all."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build.initramfs import tree, write_cpio
from harness.kernels.kernel import Kernel
from harness.kernels.store import KernelStore

KERNEL = "trimmed-64k"
CONTROL = "Package: k\nVersion: 1\nArchitecture: arm64\nMaintainer: A <a@b>\nDescription: k\n"
# The lead's magic, and two headers without an entry (the RPM file format).
RPM_HEAD = b"\xed\xab\xee\xdb\x03\x00" + bytes(90) + 2 * (b"\x8e\xad\xe8\x01" + bytes(12))


def laid_out(kernel: Kernel, root: Path) -> None:
    """The kernel where distributions have it."""
    assert kernel.config is not None
    assert kernel.modules is not None
    (root / "boot").mkdir(parents=True)
    with kernel.image.open("rb") as image, gzip.open(root / f"boot/vmlinuz-{kernel.release}", "wb") as packed:
        shutil.copyfileobj(image, packed)
    shutil.copyfile(kernel.config, root / f"boot/config-{kernel.release}")
    shutil.copytree(kernel.modules, root / "usr/lib/modules" / kernel.release)


def deb(root: Path, path: Path) -> None:
    """A package made by dpkg-deb."""
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(CONTROL)
    argv = ["dpkg-deb", "-b", "--root-owner-group", str(root), str(path)]
    subprocess.run(argv, check=True, capture_output=True)


def rpm(root: Path, path: Path) -> None:
    """A package of a lead, headers without entries and a payload."""
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed: apt-get install libarchive-tools")
    payload = path.with_suffix(".cpio")
    write_cpio(payload, [entry for top in ("boot", "usr") for entry in tree(root / top, top)])
    path.write_bytes(RPM_HEAD + gzip.compress(payload.read_bytes(), 1))


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_package_passes_smoke(granule_kernels: KernelStore, tmp_path: Path, kind: str) -> None:
    """The page size, memory, and a module out of the package: its cell passes."""
    laid_out(granule_kernels.get(KERNEL), tmp_path / "root")
    package = tmp_path / f"kernel.{kind}"
    (deb if kind == "deb" else rpm)(tmp_path / "root", package)
    argv = ["smoke", "--kernel", str(package), "--check", "page-size,mapping,modules"]
    command = [sys.executable, "-c", "from harness.entry import main; main()", *argv]
    done = subprocess.run(
        [*command, "--report", str(tmp_path / "report")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (cell,) = json.loads((tmp_path / "report/report.json").read_text())["cells"]
    verdicts = {check["name"]: check["verdict"] for check in cell["check_results"]}
    assert verdicts["modules"] == "PASS"
    assert cell["page_size_in_force_bytes"] == 65536
