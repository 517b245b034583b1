"""What the platform Hyper-V asks of a request and of its kernels; told before any boot."""

from __future__ import annotations

from harness.errors import UsageError
from harness.hyperv.layout import MAX_VCPUS
from harness.kernels.catalogue import Catalogue, CatalogueKernel
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import read_config
from harness.matrix.cell import Request
from harness.spec import Accel, PageSize, Platform

__all__ = ["DEFAULT_KERNELS", "lacks_drivers", "lacks_drivers_by_catalogue", "raise_if_impossible"]

DEFAULT_KERNELS = {
    PageSize.K4: "debian-4k",
    PageSize.K16: "debian-16k",
    PageSize.K64: "trimmed-hyperv-64k",
}
_FRAGMENT = "hyperv"
_OPTION = "HYPERV"


def raise_if_impossible(request: Request) -> None:
    """Raise UsageError for what no machine on Hyper-V can have."""
    if Platform.HYPERV not in request.platforms:
        return
    if request.accel is Accel.KVM:
        raise UsageError(
            "--platform hyperv is unavailable under KVM: what stands in for the hypervisor runs at EL2, and "
            "that is the host's own. Say --accel tcg."
        )
    if request.vcpus > MAX_VCPUS:
        raise UsageError(
            f"a guest on Hyper-V has {MAX_VCPUS} vCPUs at most, and this asks for {request.vcpus}"
        )
    if request.exact:
        raise UsageError(
            "--deterministic does not go with --platform hyperv: the other ends of its channels are in this "
            "process, whose instructions are not counted"
        )
    if request.features:
        raise UsageError(
            "--with does not go with --platform hyperv: EL2 is the monitor's there, and mte was not tried"
        )


def lacks_drivers(kernel: Kernel) -> str:
    """Why a kernel would not look for Hyper-V; empty where it has VMBus, or does not say what it has."""
    if kernel.config is None or read_config(kernel.config).get(_OPTION, "n") in ("y", "m"):
        return ""
    return _without(kernel.name)


def lacks_drivers_by_catalogue(kernel: CatalogueKernel, catalogue: Catalogue) -> str:
    """The same of a kernel that is not here yet: of one that is built, its fragments tell."""
    parts = [catalogue.find(name) for name in kernel.members] or [kernel]
    bare = any(part.source.is_built and _FRAGMENT not in part.fragments for part in parts)
    return _without(kernel.name) if bare else ""


def _without(name: str) -> str:
    return (
        f"{name} is built without CONFIG_{_OPTION}: on Hyper-V it would find no bus and none of its devices. "
        "Debian's kernels and the families 'hyperv' and 'distro' have it."
    )
