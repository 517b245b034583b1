"""From a request to the cells that can be, and the reasons of those that cannot: all before any boot."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from harness.errors import UsageError
from harness.kernels.catalogue import CatalogueKernel
from harness.kernels.file import Beside
from harness.kernels.store import KernelStore, is_path
from harness.linux.pagesize_option import OPTION
from harness.matrix import on_disk, on_hyperv
from harness.matrix.asking import BY_SIZE, LACKING, Asking, askings_for
from harness.matrix.cell import Cell, Request, check_groups
from harness.matrix.exact import NEVER_EXACT
from harness.qemu.probe import CpuModel, resolve_accel
from harness.smoke import checks_on
from harness.spec import Accel, GuestKind, PageSize, Platform
from harness.verdict import Skipped

__all__ = ["DEFAULT_KERNELS", "CpuModels", "Plan", "plan"]

DEFAULT_KERNELS = {
    PageSize.K4: "debian-4k",
    PageSize.K16: "debian-16k",
    PageSize.K64: "trimmed-64k",
}
"""What runs when no kernel is named: packaged ones where there are any, for a first verdict in minutes."""

DEFAULT_CPU = "neoverse-n1"
"""Has all three granules and no pointer authentication, which costs an emulated kernel half its time."""


class CpuModels(Protocol):
    """What a plan asks of QEMU; see harness.qemu.probe.Qemu."""

    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """The model that `-cpu argument` selects."""

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """The models that have a granule; none where there is no choice of them, as under KVM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cells to run, and those left out with their reasons."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A kernel name, and the page sizes that it can have."""

    name: str
    sizes: tuple[PageSize, ...]
    is_boot_time: bool = False
    is_file: bool = False
    platform: Platform = Platform.VIRT
    guest: GuestKind = GuestKind.MICRO
    lacks_hyperv: str = ""
    """Why it cannot be on Hyper-V, where that is known before it is here."""


def plan(request: Request, store: KernelStore, qemu: CpuModels, beside: Beside | None = None) -> Plan:
    """Expand a request; raises UsageError for what is unknown, and when not one cell is left."""
    if beside is not None and not any(is_path(name, store.catalogue) for name in request.kernels):
        raise UsageError(
            "--modules, --initrd, --vmlinux and --config go with a kernel file (a path with a '/'); "
            "the kernels of the catalogue bring their own"
        )
    _raise_if_not_exact(request)
    on_hyperv.raise_if_impossible(request)
    on_disk.raise_if_impossible(request)
    # Instructions are counted under TCG only, and under KVM the EL2 that a monitor needs is the host's.
    only_tcg = request.exact or Platform.HYPERV in request.platforms
    accel = Accel.TCG if only_tcg else resolve_accel(request.accel)
    if request.features and accel is Accel.KVM:
        raise UsageError("--with is for machines that QEMU emulates: under KVM a guest has its host's")
    cpus = request.cpus or ("host" if accel is Accel.KVM else DEFAULT_CPU,)
    models = {cpu: qemu.cpu_model(cpu, accel) for cpu in cpus}
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    pairs = tuple(
        (
            replace(candidate, platform=platform, guest=guest),
            size,
            absent or _no_check(request, platform, guest) or _no_userspace(candidate, guest, store),
        )
        for platform in request.platforms
        for guest in request.guests
        for candidate, size, absent in _pairs(request, store, beside, _defaults(platform, guest))
    )
    for candidate, size, absent in pairs:
        if candidate.is_boot_time and BY_SIZE not in request.askings:
            continue
        for cpu, model in models.items():
            reason = (
                absent or _mismatch(candidate, size) or _no_granule(candidate, size, cpu, model, qemu, accel)
            )
            if reason and not (request.force and not absent):
                on = "" if candidate.platform is Platform.VIRT else f"-{candidate.platform.value}"
                on += "" if candidate.guest is GuestKind.MICRO else f"-{candidate.guest.value}"
                skipped.append(Skipped(id=f"{size.token}-{candidate.name}-{cpu}{on}", reason=reason))
                continue
            cells += _cells(candidate, size, cpu, accel, request)
    chosen_at_boot = tuple(dict.fromkeys(one for one, _, _ in pairs if one.is_boot_time))
    if not chosen_at_boot and BY_SIZE not in request.askings:
        raise UsageError(
            "--ask is for kernels that take their page size from the command line, and none of these does; "
            "--boot-time has one taken for such"
        )
    for candidate in chosen_at_boot:
        for cpu, model in models.items():
            granules = model.granules & set(candidate.sizes)
            if granules:
                for asking in askings_for(request.askings, granules):
                    due = asking.due(granules)
                    cells += _cells(candidate, due, cpu, accel, _short(request), asking)
            elif set(request.askings) != {BY_SIZE}:
                reason = f"CPU {cpu} has, or tells, no granule of this kernel: nothing is due without a size"
                skipped.append(Skipped(id=f"ask-{candidate.name}-{cpu}", reason=reason))
    if not cells:
        reasons = sorted({entry.reason for entry in skipped}) or ["no kernel and no page size were named"]
        raise UsageError("nothing to run: " + "; ".join(reasons))
    return Plan(cells=_told_apart(cells), skipped=tuple(dict.fromkeys(skipped)))


def _defaults(platform: Platform, guest: GuestKind) -> dict[PageSize, str]:
    if guest.is_on_disk:
        return on_disk.DEFAULT_KERNELS
    return on_hyperv.DEFAULT_KERNELS if platform is Platform.HYPERV else DEFAULT_KERNELS


def _no_userspace(candidate: _Candidate, guest: GuestKind, store: KernelStore) -> str:
    return on_disk.lacks_options(candidate.name, store.catalogue) if guest.is_on_disk else ""


def _pairs(
    request: Request, store: KernelStore, beside: Beside | None, defaults: Mapping[PageSize, str]
) -> Iterator[tuple[_Candidate, PageSize, str]]:
    """Each kernel with each page size it is asked for, and why there is none of that size (or nothing)."""
    if not request.kernels:
        for size in request.page_sizes or tuple(PageSize):
            yield _Candidate(name=defaults[size], sizes=(size,)), size, ""
        return
    for name in request.kernels:
        members = () if is_path(name, store.catalogue) else store.catalogue.expand(name)
        if members and members[0].name != name:
            yield from _family(name, members, request, store)
            continue
        candidate = _candidate(name, members, request, store, beside)
        for size in request.page_sizes or candidate.sizes:
            yield candidate, size, ""


def _candidate(
    name: str,
    members: tuple[CatalogueKernel, ...],
    request: Request,
    store: KernelStore,
    beside: Beside | None,
) -> _Candidate:
    """A kernel that was named by itself; raises UsageError where nobody says of which page size it is."""
    if members:
        only, is_boot_time = members[0].page_size, members[0].page_size is None
        held = [store.catalogue.find(member).page_size for member in members[0].members]
        lacks_hyperv = on_hyperv.lacks_drivers_by_catalogue(members[0], store.catalogue)
    else:
        kernel = store.get(name, beside=beside)
        only, is_boot_time = kernel.page_size, kernel.is_boot_time
        held = [member.page_size for member in kernel.members]
        lacks_hyperv = on_hyperv.lacks_drivers(kernel)
    if request.boot_time is not None:
        is_boot_time = request.boot_time
    if only is None and not is_boot_time and not request.page_sizes:
        raise UsageError(
            f"{name} has no page size in its Image header and does not know {OPTION}=: say --page-size, or "
            "--boot-time if it does take its page size from the command line"
        )
    known = held if is_boot_time else [only]
    return _Candidate(
        name=name,
        sizes=tuple(size for size in PageSize if size in known) or tuple(PageSize),
        is_boot_time=is_boot_time,
        is_file=not members,
        lacks_hyperv=lacks_hyperv,
    )


def _family(
    family: str, members: tuple[CatalogueKernel, ...], request: Request, store: KernelStore
) -> Iterator[tuple[_Candidate, PageSize, str]]:
    by_size = {member.page_size: member.name for member in members}
    lacking = {
        member.name: on_hyperv.lacks_drivers_by_catalogue(member, store.catalogue) for member in members
    }
    for size in request.page_sizes or tuple(size for size in PageSize if size in by_size):
        absent = "" if size in by_size else f"there is no {size.label} kernel among '{family}'"
        name = by_size.get(size, family)
        yield _Candidate(name=name, sizes=(size,), lacks_hyperv=lacking.get(name, "")), size, absent


def _short(request: Request) -> Request:
    """The request with the checks that tell a page size: the others run where a size is asked for by name."""
    telling = tuple(check for check in request.checks if check.tells_page_size)
    return replace(request, checks=telling or request.checks)


def _no_check(request: Request, platform: Platform, guest: GuestKind) -> str:
    """Why a platform or guest has no cell although checks were named; empty where it has."""
    if not request.checks or checks_on(platform, request.checks, guest=guest):
        return ""
    names = ", ".join(check.name for check in request.checks)
    if checks_on(platform, request.checks) or all(check.platform is None for check in request.checks):
        kinds = {kind.value for check in request.checks for kind in check.guests}
        return f"{names}: for --guest {', '.join(sorted(kinds))} only"
    only = next(check.platform.value for check in request.checks if check.platform is not None)
    return f"{names}: {'a check' if len(request.checks) == 1 else 'checks'} for --platform {only} only"


def _mismatch(candidate: _Candidate, size: PageSize) -> str:
    if candidate.platform is Platform.HYPERV and candidate.lacks_hyperv:
        return candidate.lacks_hyperv
    if size in candidate.sizes:
        return ""
    has = " and ".join(one.label for one in candidate.sizes)
    if candidate.is_boot_time:
        return f"{candidate.name} holds kernels of {has} and cannot be {size.label}"
    return f"{candidate.name} is a {has} kernel by its Image header and cannot be {size.label}"


def _no_granule(
    candidate: _Candidate, size: PageSize, cpu: str, model: CpuModel, qemu: CpuModels, accel: Accel
) -> str:
    if size in model.granules or not model.granules:
        return ""
    has = " and ".join(granule.label for granule in PageSize if granule in model.granules)
    would_do = ", ".join(qemu.models_with(size, accel))
    advice = f" These have it: {would_do}." if would_do else ""
    outcome = f"a {size.label} kernel would hang on it without a word"
    if candidate.is_boot_time:
        outcome = f"{candidate.name} would take another size, which --ask {LACKING} shows"
    return (
        f"CPU {cpu} has no {size.label} granule (ID_AA64MMFR0_EL1 names {has}): {outcome}.{advice} "
        "--force boots it all the same."
    )


def _cells(
    candidate: _Candidate,
    size: PageSize,
    cpu: str,
    accel: Accel,
    request: Request,
    asking: Asking | None = None,
) -> Iterator[Cell]:
    left_out: tuple[tuple[str, str], ...] = ()
    asked = checks_on(candidate.platform, request.checks, guest=candidate.guest)
    if request.exact:
        left_out = tuple((one.name, NEVER_EXACT[one.name]) for one in asked if one.name in NEVER_EXACT)
        asked = tuple(one for one in asked if one.name not in NEVER_EXACT)
    for number, (memory_mib, checks) in enumerate(check_groups(asked, size).items()):
        for exact in request.exact or (None,):
            yield Cell(
                guest=candidate.guest,
                kernel=candidate.name,
                page_size=size,
                cpu=cpu,
                accel=accel,
                vcpus=request.vcpus,
                memory_mib=max(memory_mib, candidate.guest.memory_mib),
                checks=checks,
                timeout_s=request.timeout_s,
                force=request.force,
                boot_time=candidate.is_boot_time,
                asking=asking,
                cmdline=request.cmdline,
                features=request.features,
                platform=candidate.platform,
                guest_options=request.guest_options if candidate.guest is GuestKind.IMAGE else (),
                allowed_taint=request.allowed_taint,
                kernel_options=request.kernel_options if candidate.is_file else (),
                command=request.command,
                exact=exact,
                explored=request.explored,
                left_out=left_out if number == 0 else (),  # told once
            )


def _raise_if_not_exact(request: Request) -> None:
    if not request.exact:
        return
    if request.accel is Accel.KVM:
        raise UsageError("a run repeats under TCG only: instructions are not counted under KVM")
    if set(request.askings) != {BY_SIZE}:
        raise UsageError("--ask does not go with --deterministic: reports do not keep it for a replay yet")
    if request.features:
        raise UsageError("--with does not go with --deterministic: reports do not keep it for a replay yet")
    never = [check.name for check in request.checks if check.name in NEVER_EXACT]
    if never and len(never) == len(request.checks):
        reasons = "; ".join(f"{name}: {NEVER_EXACT[name]}" for name in never)
        raise UsageError(f"nothing to run: no check that was asked for can repeat ({reasons})")


def _told_apart(cells: list[Cell]) -> tuple[Cell, ...]:
    """The cells without repetitions; those of two kernels with one file name get a tag in their ids."""
    different = list({(cell.kernel, cell.id): cell for cell in cells}.values())
    counts = Counter(cell.id for cell in different)
    return tuple(replace(cell, tag=_tag(cell.kernel)) if counts[cell.id] > 1 else cell for cell in different)


def _tag(kernel: str) -> str:
    return "-" + hashlib.sha256(kernel.encode(errors="surrogateescape")).hexdigest()[:6]
