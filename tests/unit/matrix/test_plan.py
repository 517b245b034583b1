"""Tests of harness.matrix.plan: what is refused before any boot, and what is left."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.determinism.conditions import Conditions, explored
from harness.determinism.seed import Seed
from harness.errors import UsageError
from harness.kernels.combined import assemble
from harness.kernels.store import KernelStore
from harness.matrix import plan as plan_module
from harness.matrix.cell import Request
from harness.matrix.plan import Plan, plan
from harness.qemu.probe import CpuModel
from harness.smoke import CHECKS
from harness.smoke.check import BASE_MEMORY_MIB
from harness.spec import Accel, Feature, PageSize

GRANULES = {
    "neoverse-n1": frozenset(PageSize),
    "cortex-a57": frozenset({PageSize.K4, PageSize.K64}),
    "host": frozenset[PageSize](),  # an old KVM that does not say
}


class FakeQemu:
    """A QEMU that knows three CPU models and is never started."""

    def cpu_model(self, argument: str, accel: Accel) -> CpuModel:
        """See harness.qemu.probe.Qemu."""
        return CpuModel(argument=argument, granules=GRANULES[argument])

    def models_with(self, size: PageSize, accel: Accel = Accel.TCG) -> tuple[str, ...]:
        """See harness.qemu.probe.Qemu."""
        return tuple(name for name, granules in GRANULES.items() if size in granules)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelStore:
    """The real catalogue over an empty cache, on a host without KVM."""
    monkeypatch.setattr(plan_module, "resolve_accel", lambda _wanted: Accel.TCG)
    return KernelStore(Cache(tmp_path / "cache"), offline=True)


def _plan(store: KernelStore, **options: object) -> Plan:
    return plan(Request(**options), store, FakeQemu())  # type: ignore[arg-type]


def _kernels(planned: Plan) -> list[str]:
    return list(dict.fromkeys(cell.kernel for cell in planned.cells))


def _image(path: Path, page_size_flag: int, body: bytes = b"") -> str:
    """An arm64 Image that is its header and `body` (Linux Documentation/arch/arm64/booting.rst)."""
    flags = page_size_flag << 1
    header = struct.pack("<IIQQQQQQ4sI", 0, 0, 0, 8192, flags, 0, 0, 0, b"ARM\x64", 0)
    path.write_bytes(header + body + bytes(4096))
    return str(path)


def test_without_options_all_three_sizes_run(store: KernelStore) -> None:
    """The default is one kernel per page size, packaged ones where Debian has them."""
    assert _kernels(_plan(store)) == ["debian-4k", "debian-16k", "trimmed-64k"]


def test_a_page_size_chooses_its_default_kernel(store: KernelStore) -> None:
    """`--page-size 16k` alone means Debian's 16K kernel at 16K."""
    planned = _plan(store, page_sizes=(PageSize.K16,))
    assert _kernels(planned) == ["debian-16k"]
    assert {cell.page_size for cell in planned.cells} == {PageSize.K16}


def test_a_compile_time_kernel_is_asked_for_its_own_size(store: KernelStore) -> None:
    """Without --page-size the size in the kernel's header is the one asked for."""
    assert {cell.page_size for cell in _plan(store, kernels=("trimmed-64k",)).cells} == {PageSize.K64}


def test_a_file_is_asked_for_the_size_in_its_header(store: KernelStore, tmp_path: Path) -> None:
    """The same for a file of the user's."""
    path = _image(tmp_path / "Image16", 2)
    assert {cell.page_size for cell in _plan(store, kernels=(path,)).cells} == {PageSize.K16}


def test_a_boot_time_image_is_asked_for_every_size(store: KernelStore, tmp_path: Path) -> None:
    """An Image without a page size that knows the option; --no-boot-time overrules what it says of itself."""
    path = _image(tmp_path / "ImageAny", 0, b"arm64.pagesize=")
    cells = _plan(store, kernels=(path,)).cells
    assert {cell.page_size for cell in cells} == set(PageSize)
    assert all(cell.boot_time for cell in cells)
    with pytest.raises(UsageError, match="say --page-size, or --boot-time"):
        _plan(store, kernels=(path,), boot_time=False)
    (cell,) = _plan(store, kernels=(path,), boot_time=False, page_sizes=(PageSize.K4,)).cells
    assert not cell.boot_time


def test_an_image_that_says_nothing_is_not_guessed_at(store: KernelStore, tmp_path: Path) -> None:
    """No page size in the header and no option inside: somebody has to say which it is."""
    path = _image(tmp_path / "ImageAny", 0)
    with pytest.raises(UsageError, match="does not know arm64"):
        _plan(store, kernels=(path,))
    assert {cell.page_size for cell in _plan(store, kernels=(path,), boot_time=True).cells} == set(PageSize)


def test_ways_of_asking_are_cells(store: KernelStore) -> None:
    """Each has the size that is due, the checks that tell a page size, words of its own and its command."""
    request = {"kernels": ("debian-4k",), "boot_time": True, "askings": ("none", "bad-last")}
    none, bad_last = _plan(store, **request).cells
    assert (none.page_size, bad_last.page_size) == (PageSize.K64, PageSize.K16)
    assert none.page_size_words == ()
    assert bad_last.page_size_words == ("arm64.pagesize=16k", "arm64.pagesize=8k")
    names = {check.name for check in none.checks}
    assert names == {"page-size", "mapping", "user-tables", "kernel-tables"}
    assert none.id.endswith("-none")
    assert none.cold
    assert "--ask none" in none.rerun
    assert "--page-size" not in none.rerun


def test_what_is_due_depends_on_the_cpu(store: KernelStore) -> None:
    """A size that one CPU lacks is a cell there, at the largest size it has; by name it is refused."""
    request = {"kernels": ("debian-4k",), "boot_time": True, "cpus": ("neoverse-n1", "cortex-a57")}
    (lacking,) = _plan(store, **request, askings=("lacking",)).cells
    assert (lacking.cpu, lacking.page_size) == ("cortex-a57", PageSize.K64)
    assert "--ask lacking" in lacking.rerun
    refused = [entry.id for entry in _plan(store, **request).skipped]
    assert refused == ["16k-debian-4k-cortex-a57"]


def test_what_is_due_on_an_unknown_cpu_is_skipped(store: KernelStore) -> None:
    """Where QEMU does not tell a model's granules, nobody knows what is due without a size."""
    request = {"kernels": ("debian-4k",), "boot_time": True, "cpus": ("host",)}
    planned = _plan(store, **request, askings=("size", "none"))
    assert all(cell.asking is None for cell in planned.cells)
    assert ["nothing is due without a size" in entry.reason for entry in planned.skipped] == [True]


def test_a_combined_image_is_asked_for_what_it_holds(store: KernelStore, tmp_path: Path) -> None:
    """Of two kernels the larger is the default; a size that is not among them is skipped, not expected."""
    kernels = [Path(_image(tmp_path / f"Image{flag}", flag)) for flag in (1, 2)]
    path = tmp_path / "both"
    with path.open("wb") as out:
        assemble(bytes(4096), [(one.name, one) for one in kernels], out)
    head = bytearray(path.read_bytes())
    head[:64] = Path(_image(tmp_path / "head", 0)).read_bytes()[:64]  # in place of the selector's
    path.write_bytes(head)
    cells = _plan(store, kernels=(str(path),), askings=("size", "none", "lacking")).cells
    by_size = [cell.page_size for cell in cells if cell.asking is None]
    asked = {cell.asking.name: cell.page_size for cell in cells if cell.asking is not None}
    assert by_size == [PageSize.K4, PageSize.K16]
    assert asked == {"none": PageSize.K16, "lacking-64k": PageSize.K16}
    with pytest.raises(UsageError, match="holds kernels of 4K and 16K and cannot be 64K"):
        _plan(store, kernels=(str(path),), page_sizes=(PageSize.K64,))


def test_what_a_boot_time_kernel_does_without_a_granule_is_not_a_hang(store: KernelStore) -> None:
    """It is refused at a size that the CPU lacks, with the way to see what it takes instead."""
    with pytest.raises(UsageError, match="combined would take another size, which --ask lacking shows"):
        _plan(store, kernels=("combined",), page_sizes=(PageSize.K16,), cpus=("cortex-a57",))


def test_ways_are_for_boot_time_kernels(store: KernelStore) -> None:
    """A compile-time kernel beside one is asked as ever; a run that repeats knows the ordinary way only."""
    askings = ("size", "none")
    planned = _plan(store, kernels=("trimmed-4k",), askings=askings)
    assert [cell.asking for cell in planned.cells] == [None]
    with pytest.raises(UsageError, match="none of these does"):
        _plan(store, kernels=("trimmed-4k",), askings=("none",))
    with pytest.raises(UsageError, match="--ask does not go with"):
        _plan(store, kernels=("debian-4k",), exact=(Conditions.of(None),), askings=askings)


def test_a_pair_that_cannot_be_is_skipped_with_its_reason(store: KernelStore) -> None:
    """A 4K kernel asked for 16K is listed as skipped while other cells remain."""
    planned = _plan(store, kernels=("debian-4k", "debian-16k"), page_sizes=(PageSize.K16,))
    assert _kernels(planned) == ["debian-16k"]
    (skipped,) = planned.skipped
    assert "debian-4k" in skipped.id
    assert "4K kernel by its Image header and cannot be 16K" in skipped.reason


def test_nothing_left_is_a_usage_error(store: KernelStore) -> None:
    """When every pair is refused, the reasons are the error."""
    with pytest.raises(UsageError, match="cannot be 64K"):
        _plan(store, kernels=("debian-4k",), page_sizes=(PageSize.K64,))


def test_a_cpu_without_the_granule_is_refused_with_those_that_have_it(store: KernelStore) -> None:
    """cortex-a57 at 16K is refused before boot, and the CPU models that would do are named."""
    with pytest.raises(UsageError, match=r"cortex-a57 has no 16K granule.*neoverse-n1"):
        _plan(store, page_sizes=(PageSize.K16,), cpus=("cortex-a57",))


def test_force_boots_what_would_be_refused(store: KernelStore) -> None:
    """--force makes a cell of it."""
    planned = _plan(store, page_sizes=(PageSize.K16,), cpus=("cortex-a57",), force=True)
    assert planned.cells
    assert not planned.skipped
    assert all("--force" in cell.rerun for cell in planned.cells)


def test_a_cpu_that_does_not_say_is_tried(store: KernelStore) -> None:
    """Where QEMU does not tell a model's granules, the cell runs."""
    assert _plan(store, page_sizes=(PageSize.K16,), cpus=("host",)).cells


def test_boot_time_asks_every_size_of_one_kernel(store: KernelStore) -> None:
    """--boot-time makes a compile-time kernel answer for every size."""
    planned = _plan(store, kernels=("debian-4k",), boot_time=True)
    assert {cell.page_size for cell in planned.cells} == set(PageSize)


def test_a_family_stands_for_its_members(store: KernelStore) -> None:
    """`trimmed` is one kernel per page size; a size that a family lacks is skipped by name."""
    assert _kernels(_plan(store, kernels=("trimmed",))) == ["trimmed-4k", "trimmed-16k", "trimmed-64k"]
    planned = _plan(store, kernels=("debian",), page_sizes=tuple(PageSize))
    assert _kernels(planned) == ["debian-4k", "debian-16k"]
    assert [entry.reason for entry in planned.skipped] == ["there is no 64K kernel among 'debian'"]


def test_checks_that_need_memory_get_a_cell_of_their_own(store: KernelStore) -> None:
    """At 64K, where a PMD maps 512 MiB, two cells share out the checks; at 4K one has them all."""
    small, large = _plan(store, kernels=("trimmed-64k",)).cells
    assert small.memory_mib == BASE_MEMORY_MIB < large.memory_mib
    assert {check.name for check in large.checks} == {"hugetlb-pmd", "thp"}
    assert {check.name for check in (*small.checks, *large.checks)} == {check.name for check in CHECKS}
    (only,) = _plan(store, kernels=("trimmed-4k",)).cells
    assert only.checks == CHECKS


def test_ids_are_unique(store: KernelStore) -> None:
    """No two cells of a matrix have the same id."""
    planned = _plan(store, kernels=("trimmed", "debian"), cpus=("neoverse-n1", "cortex-a57"))
    ids = [cell.id for cell in planned.cells]
    assert len(set(ids)) == len(ids)


def test_an_unknown_kernel_names_the_near_miss(store: KernelStore) -> None:
    """A misspelt kernel is a usage error with the right name in it."""
    with pytest.raises(UsageError, match="debian-16k"):
        _plan(store, kernels=("debain-16k",))


def test_two_files_of_one_name_are_told_apart(store: KernelStore, tmp_path: Path) -> None:
    """Cells of a/Image and b/Image have ids of their own; the same file twice is one cell."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _image(tmp_path / name / "Image", 1)
    paths = tuple(str(tmp_path / name / "Image") for name in ("a", "b", "a"))
    ids = [cell.id for cell in _plan(store, kernels=paths).cells]
    assert len(ids) == len(set(ids)) == 2


def test_a_cell_runs_again_as_it_ran(store: KernelStore) -> None:
    """The command of a cell is understood by the program that printed it: CPU properties keep their '+'."""
    GRANULES["max,lpa2=off"] = frozenset(PageSize)
    (cell,) = _plan(store, kernels=("debian-4k",), cpus=("max,lpa2=off",)).cells
    assert "--cpu max+lpa2=off " in cell.rerun


def test_what_a_cell_was_booted_with_is_in_its_command(store: KernelStore) -> None:
    """Words for any kernel, and features of the machine, are part of the command; features of the id too."""
    features = (Feature.EL2, Feature.MTE)
    (cell,) = _plan(store, kernels=("debian-4k",), cmdline="kpti=on", features=features).cells
    assert "--with el2,mte --cmdline kpti=on" in cell.rerun
    assert cell.id.endswith("-el2-mte")


def test_features_where_they_cannot_be(store: KernelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report keeps no features for a replay, and KVM has none: both are said before anything boots."""
    asked = {"kernels": ("debian-4k",), "features": (Feature.EL2,)}
    with pytest.raises(UsageError, match="--with does not go with"):
        _plan(store, **asked, exact=(Conditions.of(Seed(1)),))
    monkeypatch.setattr(plan_module, "resolve_accel", lambda _wanted: Accel.KVM)
    with pytest.raises(UsageError, match="under KVM"):
        _plan(store, **asked)


def test_options_of_a_file_stay_with_it(store: KernelStore, tmp_path: Path) -> None:
    """`--modules` given beside a file is not repeated for a kernel of the catalogue."""
    path = _image(tmp_path / "Image", 1)
    planned = _plan(store, kernels=(path, "debian-4k"), kernel_options=("--modules", "m"))
    assert ["--modules" in cell.rerun for cell in planned.cells] == [True, False]


def test_a_run_that_repeats_leaves_checks_out(store: KernelStore) -> None:
    """Checks that need what cannot repeat are no part of the cell, and are named there with a reason."""
    cell = _plan(store, kernels=("debian-16k",), exact=(Conditions.of(None),), vcpus=1).cells[0]
    names = [check.name for check in cell.checks]
    assert "fork" in names
    assert [name for name, _ in cell.left_out] == ["block", "network", "ssh", "user-tables"]
    assert not set(dict(cell.left_out)) & set(names)
    assert all(len(reason) > 20 for reason in dict(cell.left_out).values())


def test_left_out_checks_are_told_once(store: KernelStore) -> None:
    """Where a request makes several cells, also when none of them is an ordinary one, one of them tells."""
    for checks in (CHECKS, tuple(check for check in CHECKS if check.name in ("thp", "block"))):
        cells = _plan(store, kernels=("trimmed-64k",), exact=(Conditions.of(None),), checks=checks).cells
        assert sum(bool(cell.left_out) for cell in cells) == 1


def test_nothing_that_repeats(store: KernelStore) -> None:
    """A request for such checks alone is refused with their reasons; so is KVM."""
    block = tuple(check for check in CHECKS if check.name == "block")
    with pytest.raises(UsageError, match="virtio-blk completes"):
        _plan(store, kernels=("debian-16k",), exact=(Conditions.of(None),), checks=block)
    with pytest.raises(UsageError, match="TCG only"):
        _plan(store, kernels=("debian-16k",), exact=(Conditions.of(None),), accel=Accel.KVM)


def test_explored_seeds_are_cells(store: KernelStore) -> None:
    """Each seed is a cell with an id of its own, and its command gives the same conditions again."""
    conditions = tuple(explored(Seed(3), 5))
    request = {"kernels": ("debian-16k",), "exact": conditions, "explored": True, "vcpus": 1}
    cells = _plan(store, **request).cells
    assert [cell.exact for cell in cells] == list(conditions)
    assert len({cell.id for cell in cells}) == 5
    assert "--deterministic 4 --explore 1" in cells[1].rerun
    assert tuple(explored(Seed(4), 1)) == (conditions[1],)


@pytest.mark.parametrize(("seed", "words"), [(None, "--deterministic"), (Seed(7), "--deterministic 7")])
def test_the_seed_is_in_the_command(store: KernelStore, seed: Seed | None, words: str) -> None:
    """The command that runs a cell again has the seed, or the word alone."""
    cell = _plan(store, kernels=("debian-16k",), exact=(Conditions.of(seed),), checks=CHECKS[:1]).cells[0]
    assert f" {words} --check page-size" in cell.rerun
