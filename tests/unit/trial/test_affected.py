"""Which drivers a patch changes, by its files."""

from __future__ import annotations

import pytest

from harness.hyperv.modules import MODULES
from harness.trial import Affected, affected


@pytest.mark.parametrize(
    ("file", "modules"),
    [
        ("drivers/hv/ring_buffer.c", ("hv_vmbus",)),
        ("drivers/hv/hv_kvp.c", ("hv_utils",)),
        ("drivers/hv/hyperv_vmbus.h", ("hv_vmbus", "hv_utils", "hv_balloon")),
        ("drivers/hv/hv_balloon.c", ("hv_balloon",)),
        ("drivers/scsi/storvsc_drv.c", ("hv_storvsc",)),
        ("drivers/net/hyperv/rndis_filter.c", ("hv_netvsc",)),
        ("drivers/net/hyperv/hyperv_net.h", ("hv_netvsc",)),
        ("net/vmw_vsock/hyperv_transport.c", ("hv_sock",)),
        ("include/linux/hyperv.h", tuple(MODULES)),
    ],
)
def test_files_of_modules(file: str, modules: tuple[str, ...]) -> None:
    """A source belongs to the module that it is linked into, a header to all that are made beside it."""
    assert affected([file]) == Affected(modules=modules)


@pytest.mark.parametrize(
    "file",
    [
        "drivers/hv/hv_common.c",  # built in
        "arch/arm64/hyperv/mshyperv.c",
        "net/vmw_vsock/af_vsock.c",
        "drivers/scsi/sd.c",
        "drivers/net/hyperv/Makefile",
        "include/asm-generic/mshyperv.h",
    ],
)
def test_files_that_take_a_kernel(file: str) -> None:
    """What is no part of a module that can be rebuilt takes a whole kernel."""
    assert affected([file]) == Affected(beyond=(file,))


def test_files_without_code() -> None:
    """Documentation is told from code, and does not keep a patch's code from being tried."""
    files = [
        "Documentation/virt/hyperv/vmbus.rst",
        "MAINTAINERS",
        "drivers/hv/hv.c",
        "tools/hv/hv_kvp_daemon.c",
    ]
    assert affected(files) == Affected(modules=("hv_vmbus",), idle=(files[0], files[1], files[3]))


def test_drivers_that_nothing_here_speaks_to() -> None:
    """Of a driver of Hyper-V's without a device here, the name is known: nobody takes it for tried."""
    files = ["drivers/pci/controller/pci-hyperv.c", "drivers/hid/hid-hyperv.c", "drivers/hv/hv_common.c"]
    assert affected(files).elsewhere == ("pci-hyperv", "hid-hyperv")
