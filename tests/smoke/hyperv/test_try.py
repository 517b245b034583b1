"""`granule hyperv try` on Debian's 16K kernel: a mistake is caught and named, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from harness.cli.hyperv import hyperv
from harness.errors import ExitStatus, UsageError
from harness.hyperv.corpus import read_corpus
from harness.hyperv.modules import debian_source
from harness.kernels.store import KernelStore
from harness.matrix.run import Bench

KERNEL: Final = "debian-16k"
CORPUS = {bug.name: bug for bug in read_corpus(Path(__file__).parents[2] / "hyperv-corpus/index.toml")}
DRIVER: Final = "drivers/scsi/storvsc_drv.c"
HARMLESS: Final = f"""--- a/{DRIVER}
+++ b/{DRIVER}
@@ -1,3 +1,4 @@
 // SPDX-License-Identifier: GPL-2.0-only
+/* Nothing that a compiler sees. */
 /*
  * Copyright (c) 2009, Microsoft Corporation.
--- a/Documentation/virt/hyperv/no-such.rst
+++ b/Documentation/virt/hyperv/no-such.rst
@@ -1,1 +1,1 @@
-Old.
+New.
"""
BROKEN: Final = HARMLESS.replace("/* Nothing that a compiler sees. */", "#error does not build")


@pytest.fixture(autouse=True)
def kernel(granule_kernels: KernelStore) -> None:
    """The kernel has to be here."""
    if not granule_kernels.available(KERNEL):
        pytest.skip(f"{KERNEL} is not in the cache: granule kernels fetch {KERNEL}")


def tried(*words: str) -> Any:
    """What the command ended with."""
    return CliRunner().invoke(hyperv, ["try", "--kernel", KERNEL, *words], catch_exceptions=True)


def test_a_mistake_is_caught_and_named(tmp_path: Path) -> None:
    """Before, all passes; with the patch a rule of the wire is broken, and its source line told."""
    bug = CORPUS["storvsc-room-for-guest-pages"]
    done = tried("--patch", str(bug.patch), "--check", "vmbus,storvsc", "--report", str(tmp_path / "r"))
    assert done.exit_code == ExitStatus.FAILED, done.output
    (trial,) = json.loads((tmp_path / "r/try.json").read_text())["trials"]
    verdicts = {one["name"]: (one["before"], one["after"]) for one in trial["checks"]}
    assert verdicts["wire"] == ("PASS", "FAIL")
    assert verdicts["cell"][0] == "PASS"
    (rule,) = (one for one in trial["rules"] if one["name"] == bug.rule)
    assert rule["worse"]
    assert rule["source"].startswith(DRIVER)
    assert bug.rule in done.output
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert [cell["verdict"] for cell in report["cells"]] == ["PASS", "FAIL"]


def test_a_harmless_patch(tmp_path: Path) -> None:
    """No difference is one, files without code are left aside, and a driver that nothing used is named."""
    patch = tmp_path / "harmless.patch"
    patch.write_text(HARMLESS)
    sock = tmp_path / "sock.patch"
    sock.write_text(
        HARMLESS.partition("--- a/Doc")[0]
        .replace(DRIVER, "net/vmw_vsock/hyperv_transport.c")
        .replace("Copyright (c) 2009, Microsoft Corporation.", "Hyper-V transport for vsock")
    )
    done = tried("--patch", str(patch), "--patch", str(sock), "--check", "storvsc", "--json")
    assert done.exit_code == ExitStatus.PASSED, done.output
    facts = json.loads(done.stdout)
    (trial,) = facts["trials"]
    assert (facts["worse"], trial["rules"]) == (False, [])
    assert facts["files_without_code"] == ["Documentation/virt/hyperv/no-such.rst"]
    assert trial["not_exercised"] == ["hv_sock"]
    assert {one["name"]: one["after"] for one in trial["checks"]}["wire"] == "PASS"


def test_a_module_of_ones_own(granule_bench: Bench, granule_kernels: KernelStore, tmp_path: Path) -> None:
    """A directory with the driver's source and a Kbuild file takes the place of the kernel's own."""
    source = debian_source(granule_bench.cache, granule_kernels.get(KERNEL)) / DRIVER
    shutil.copyfile(source, tmp_path / "hv_storvsc.c")
    (tmp_path / "Kbuild").write_text("obj-m := hv_storvsc.o\n")
    done = tried("--module", str(tmp_path), "--check", "storvsc", "--json")
    assert done.exit_code == ExitStatus.PASSED, done.output
    (trial,) = json.loads(done.stdout)["trials"]
    assert (trial["built"], trial["not_exercised"]) == (True, [])


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (BROKEN, "does not build"),
        (HARMLESS.replace("SPDX-License-Identifier", "X"), "does not apply"),
        (HARMLESS.replace(DRIVER, "drivers/hv/hv_common.c"), "is Debian's own build"),
    ],
    ids=["does not build", "does not apply", "built in"],
)
def test_what_cannot_be_tried(tmp_path: Path, patch: str, said: str) -> None:
    """It is told before anything boots, as an error of use."""
    (tmp_path / "a.patch").write_text(patch)
    done = tried("--patch", str(tmp_path / "a.patch"))
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_a_module_that_does_not_build(tmp_path: Path) -> None:
    """The compiler's words are told."""
    (tmp_path / "hv_storvsc.c").write_text("#error of ours\n")
    (tmp_path / "Kbuild").write_text("obj-m := hv_storvsc.o\n")
    done = tried("--module", str(tmp_path))
    assert isinstance(done.exception, UsageError)
    assert "does not build" in str(done.exception)
    assert "of ours" in str(done.exception)
