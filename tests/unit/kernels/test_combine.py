"""Combined kernels from the catalogue and from files, with members that were made by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.selector import build_selector
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import KernelUnavailable, ToolMissing, UsageError
from harness.kernels import combine as combine_module
from harness.kernels.catalogue import Catalogue
from harness.kernels.combine import refuse_unfit
from harness.kernels.combined import assemble, read_members
from harness.kernels.file import Beside
from harness.kernels.record import Record, describe_image
from harness.kernels.source import SourceKernels
from harness.kernels.store import KernelState, KernelStore
from harness.spec import PageSize

MakeImage = Callable[..., bytes]

SIZES = {"trimmed-4k": PageSize.K4, "trimmed-16k": PageSize.K16, "trimmed-64k": PageSize.K64}
FLAGS = {PageSize.K4: 0xA, PageSize.K16: 0xC, PageSize.K64: 0xE}


@pytest.fixture
def toolchain() -> Toolchain:
    """The compiler for arm64, or a skip that says how to get it."""
    try:
        return Toolchain.find()
    except ToolMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def publish(cache: Cache, make_image: MakeImage) -> Callable[..., None]:
    """Puts a built kernel of the catalogue into the cache, as harness/kernels/source.py leaves one."""
    catalogue = Catalogue.load()

    def put(name: str, *, mark: str = "") -> None:
        wanted = catalogue.find(name)
        size = SIZES[name]

        def build(directory: Path) -> None:
            config = f"CONFIG_X_{size.token.upper()}=y\n"
            image = make_image(FLAGS[size], release=f"6.12.1{mark}", config=config)
            (directory / "Image").write_bytes(image)
            (directory / "config").write_text(config)
            (directory / "vmlinux").write_bytes(b"elf")
            _, release, sha256 = describe_image(directory / "Image")
            (directory / "lib/modules" / release / "kernel").mkdir(parents=True)
            recipe = SourceKernels(cache, catalogue)._recipe(wanted)
            Record(
                origin=f"built {name}{mark}", release=release, image_sha256=sha256,
                page_size_bytes=size.bytes, recipe=recipe,
            ).write(directory)  # fmt: skip

        cache.make("kernels", f"{name}{mark}", build)

    return put


@pytest.fixture
def store(cache: Cache) -> KernelStore:
    return KernelStore(cache, offline=True)


def row_state(store: KernelStore) -> KernelState:
    """What the list says of the combined kernel."""
    return next(row.state for row in store.list() if row.name == "combined")


def test_made_when_asked_for(
    cache: Cache, store: KernelStore, publish: Callable[..., None], toolchain: Toolchain
) -> None:
    """With its members here a combined kernel is available, made once, and knows them with all they have."""
    for name in SIZES:
        assert not store.available("combined")
        publish(name)
    assert store.available("combined")
    assert row_state(store) is KernelState.NOT_COMBINED
    kernel = store.get("combined")
    assert row_state(store) is KernelState.CACHED
    assert (kernel.name, kernel.page_size, kernel.is_boot_time) == ("combined", None, True)
    assert kernel.release == "6.12.1"
    assert [(member.name, member.page_size) for member in kernel.members] == list(SIZES.items())
    for size in PageSize:
        running = kernel.running(size)
        assert running.page_size is size
        assert running.modules is not None
        assert running.vmlinux is not None
    assert [member.crc32 for member in read_members(kernel.image)]
    assert "trimmed-4k" in kernel.caveat
    before = kernel.image.stat().st_mtime_ns
    assert store.get("combined") == kernel
    assert kernel.image.stat().st_mtime_ns == before


def test_a_new_member_makes_a_new_one(
    store: KernelStore, publish: Callable[..., None], toolchain: Toolchain
) -> None:
    """When a member was built anew, the combined kernel holds the new one."""
    for name in SIZES:
        publish(name)
    old = store.get("combined")
    publish("trimmed-16k", mark="new")
    assert row_state(store) is KernelState.NOT_COMBINED
    new = store.get("combined")
    assert old.sha256 != new.sha256
    assert new.release == "6.12.1 / 6.12.1new"
    assert new.running(PageSize.K16).release == "6.12.1new"


def test_found_without_a_compiler(
    store: KernelStore,
    publish: Callable[..., None],
    toolchain: Toolchain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that has been made is had without a compiler; one that has not, says which is missing."""
    for name in SIZES:
        publish(name)

    def missing() -> Toolchain:
        raise ToolMissing("aarch64-linux-gnu-gcc", package="gcc-aarch64-linux-gnu")

    with monkeypatch.context() as patch:
        patch.setattr(Toolchain, "find", missing)
        with pytest.raises(ToolMissing, match="gcc-aarch64-linux-gnu"):
            store.get("combined")
    made = store.get("combined")
    monkeypatch.setattr(Toolchain, "find", missing)
    assert store.get("combined") == made


def test_another_selector_makes_a_new_one(
    store: KernelStore,
    publish: Callable[..., None],
    toolchain: Toolchain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made with another selector's sources is not taken."""
    for name in SIZES:
        publish(name)
    store.get("combined")
    monkeypatch.setattr(combine_module, "selector_digest", lambda: "another")
    assert row_state(store) is KernelState.NOT_COMBINED


def test_a_missing_member_is_named(store: KernelStore, publish: Callable[..., None]) -> None:
    """Offline, a member that is not here is named, with what to do."""
    publish("trimmed-4k")
    with pytest.raises(KernelUnavailable, match=r"combined holds trimmed-16k: .*kernels fetch trimmed-16k"):
        store.get("combined")


def test_a_file_of_the_users(
    cache: Cache, store: KernelStore, make_image: MakeImage, tmp_path: Path, toolchain: Toolchain
) -> None:
    """A combined file is taken apart: each member has its own release and configuration."""
    images = []
    for size, flags in FLAGS.items():
        path = tmp_path / f"my-{size.token}"
        config = f"CONFIG_X_{size.token.upper()}=y\n"
        path.write_bytes(make_image(flags, release=f"6.1-{size.token}", config=config))
        images.append((path.name, path))
    selector = (build_selector(toolchain, cache) / "selector.bin").read_bytes()
    with (tmp_path / "Image").open("wb") as out:
        assemble(selector, images, out)
    kernel = store.get(str(tmp_path / "Image"))
    assert (kernel.page_size, kernel.is_boot_time, kernel.config) == (None, True, None)
    assert kernel.release == "6.1-4k / 6.1-16k / 6.1-64k"
    for (name, path), member in zip(images, kernel.members, strict=True):
        assert (member.name, member.image.read_bytes()) == (name, path.read_bytes())
        assert member.page_size is not None
        assert member.release == f"6.1-{member.page_size.token}"
        assert member.config is not None
        assert member.config.read_text() == f"CONFIG_X_{member.page_size.token.upper()}=y\n"
    here = tmp_path / "my-4k"
    for option, beside in (
        ("modules", Beside(modules=here)),
        ("config", Beside(config=here)),
        ("vmlinux", Beside(vmlinux=here)),
    ):
        with pytest.raises(UsageError, match=f"--{option} goes with one kernel"):
            store.get(str(tmp_path / "Image"), beside=beside)
    assert store.get(str(tmp_path / "Image"), beside=Beside(cmdline="quiet")).cmdline == "quiet"


def test_members_of_the_catalogue_in_a_file(
    store: KernelStore, publish: Callable[..., None], tmp_path: Path, toolchain: Toolchain
) -> None:
    """Kernels of the catalogue are known again in a file, and come with their modules and symbols."""
    for name in SIZES:
        publish(name)
    (tmp_path / "mine").write_bytes(store.get("combined").image.read_bytes())
    kernel = store.get(str(tmp_path / "mine"))
    assert kernel.members == store.get("combined").members
    assert kernel.name == "mine"


def test_a_damaged_file_is_named(
    store: KernelStore, publish: Callable[..., None], tmp_path: Path, toolchain: Toolchain
) -> None:
    """A combined file with a damaged kernel is refused with the kernel's page size."""
    for name in SIZES:
        publish(name)
    data = bytearray(store.get("combined").image.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, 64 + 48 + 128 + 16)
    data[offset + 100] ^= 1
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(UsageError, match="its 16K kernel is corrupt"):
        store.get(str(tmp_path / "bad"))


def test_what_cannot_be_combined(
    store: KernelStore,
    publish: Callable[..., None],
    make_image: MakeImage,
    tmp_path: Path,
    toolchain: Toolchain,
) -> None:
    """A combined kernel, and one that chooses at boot by itself, are no members."""
    for name in SIZES:
        publish(name)
    with pytest.raises(UsageError, match="combined is a combined Image already"):
        refuse_unfit([store.get("trimmed-4k"), store.get("combined")])
    (tmp_path / "boot-time").write_bytes(make_image(0x8) + b"arm64.pagesize")
    with pytest.raises(UsageError, match="takes its page size at boot by itself"):
        refuse_unfit([store.get(str(tmp_path / "boot-time"))])


def test_a_tree_is_not_built_like_it(store: KernelStore, tmp_path: Path) -> None:
    """No tree can be built like a combined kernel."""
    with pytest.raises(UsageError, match="combined is a combined kernel"):
        store.build_tree("combined", tmp_path)
