"""What a distribution's guest asks of a request and of its kernels; told before any boot."""

from __future__ import annotations

from harness.errors import UsageError
from harness.kernels.catalogue import Catalogue
from harness.matrix.cell import Request
from harness.spec import PageSize

__all__ = ["DEFAULT_KERNELS", "lacks_options", "raise_if_impossible"]

DEFAULT_KERNELS = {
    PageSize.K4: "debian-4k",
    PageSize.K16: "debian-16k",
    PageSize.K64: "distro-64k",
}
_FRAGMENT = "distro"


def raise_if_impossible(request: Request) -> None:
    """Raise UsageError for what no guest on a disk can have."""
    guests = ", ".join(guest.value for guest in request.guests if guest.is_on_disk)
    if not guests:
        return
    if request.exact:
        raise UsageError(
            f"--deterministic does not go with --guest {guests}: a guest with disks does not repeat"
        )


def lacks_options(name: str, catalogue: Catalogue) -> str:
    """Why a kernel of the catalogue cannot run systemd; empty where it can, or is the user's own."""
    if name not in catalogue.names:
        return ""
    kernel = catalogue.find(name)
    parts = [catalogue.find(member) for member in kernel.members] or [kernel]
    if not any(part.source.is_built and _FRAGMENT not in part.fragments for part in parts):
        return ""
    return (
        f"{name} is built without what systemd needs (kernel-configs/{_FRAGMENT}.config): Debian's kernels "
        f"and the family '{_FRAGMENT}' have it"
    )
