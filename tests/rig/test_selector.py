"""Combined Images of kernels that are a few instructions long, which say what they were entered with."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.build.selector import build_selector
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.deadline import Deadline
from harness.kernels.combined import assemble
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.spec import Feature, MachineSpec, PageSize

END_S = 60.0
FIRST_2_MIB = RAM_BASE_PA + (2 << 20)
FDT_MAGIC_READ = 0xEDFE0DD0  # a big-endian word, read little-endian
DAIF_MASKED = 0x3C0
PAGES = {PageSize.K4: 1, PageSize.K16: 2, PageSize.K64: 3}
"""Bits 2:1 of an Image header's flags (booting.rst)."""
TABLE_AT, MEMBERS_AT, MEMBER_BYTES = 64, 112, 128
"""Where guests/selector/selector.h has its structures."""
LOADED_AT, TREE_AT = 2 << 20, 4096
"""Where `loader` puts things."""

Tiny = Callable[..., Path]
Combine = Callable[..., bytes]


@dataclass(frozen=True)
class Said:
    """What a tiny kernel said, and the selector before it."""

    selector: str
    pages: int = 0
    el: int = 0
    mmu: int = 0
    at_pa: int = 0
    tree_pa: int = 0
    tree_magic: int = 0
    other_arguments: int = 0
    filling: int = 0
    daif: int = 0
    vectors: int = 0
    """VBAR, which is 0 when QEMU starts."""

    @property
    def page_size(self) -> PageSize | None:
        """Which of them it was."""
        return next((size for size, bits in PAGES.items() if bits == self.pages), None)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Assembles a tiny kernel, once for each way to."""
    directory = tmp_path_factory.mktemp("tiny")
    toolchain = Toolchain.find()

    def make(size: PageSize, *, text_offset: int = 0) -> Path:
        flat = directory / f"{size.token}-{text_offset}"
        if not flat.exists():
            linked = flat.with_suffix(".elf")
            options = (f"-DPAGES={PAGES[size]}", f"-DTEXT_OFFSET={text_offset}", "-nostdlib", "-static")
            script = "-Wl,--build-id=none,-Ttext=0,-Tbss=0x30000,-z,norelro"
            source = str(Path(__file__).with_name("tiny_kernel.S"))
            subprocess.run((*toolchain.cc, *options, script, "-o", linked, source), check=True)
            subprocess.run((toolchain.tool("objcopy"), "-O", "binary", linked, flat), check=True)
        return flat

    return make


@pytest.fixture(scope="session")
def combine(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Iterator[Combine]:
    """Bytes of a combined Image of tiny kernels, all three sizes unless told otherwise."""
    with Cache(tmp_path_factory.mktemp("cache")) as cache:
        selector = (build_selector(Toolchain.find(), cache) / "selector.bin").read_bytes()

        def make(
            sizes: tuple[PageSize, ...] = tuple(PageSize), *, lz4: bool = False, text_offset: int = 0
        ) -> bytes:
            out = io.BytesIO()
            kernels = [(size.token, tiny(size, text_offset=text_offset)) for size in sizes]
            assemble(selector, kernels, out, lz4=lz4)
            return out.getvalue()

        yield make


@pytest.fixture
def run(tmp_path: Path, qemu: Qemu) -> Callable[..., Said]:
    """Boots an Image until it has spoken, and returns what was said; without a kernel it has to power off."""

    def boot(image: bytes, cmdline: str = "", *, initrd: bytes = b"granule", **machine: object) -> Said:
        kernel = tmp_path / "Image"
        kernel.write_bytes(image)
        (tmp_path / "initrd").write_bytes(initrd)
        spec = MachineSpec(
            kernel=kernel, initrd=tmp_path / "initrd", cmdline=cmdline, vcpus=1, memory_mib=128
        )
        with Machine(replace(spec, **machine), qemu) as guest:  # type: ignore[arg-type]

            def has_spoken() -> bool:
                return b">" in guest.transcript.content() or guest.process.exit_status() is not None

            Deadline.after(END_S).wait_until(has_spoken, "a tiny kernel")
            guest.console.drain(0.05, 5.0)
            text = bytes(guest.transcript.content()).decode("ascii")
            assert "<" in text or guest.is_off, text
        selector, _, rest = text.partition("<")
        words = re.findall(r"[0-9a-f]{16}", rest)
        return Said(selector.strip(), *(int(word, 16) for word in words))

    return boot


def filling_of(size: PageSize) -> int:
    """The sum over tiny_kernel.S's filling, computed here."""
    total, value = 0, PAGES[size]
    for _ in range(0x23001):
        byte = (value ^ value >> 7) & 0xFF
        total = (total * 3 + byte) % (1 << 64)
        value = (value * 5 + 1) % (1 << 64)
    return total


@pytest.mark.parametrize("lz4", [False, True], ids=["stored", "lz4"])
@pytest.mark.parametrize("features", [(), (Feature.EL2,)], ids=["el1", "el2"])
@pytest.mark.parametrize("size", PageSize)
def test_each_kernel_as_the_protocol_wants(
    combine: Combine, run: Callable[..., Said], size: PageSize, features: tuple[Feature, ...], lz4: bool
) -> None:
    """What is asked for runs, whole, where QEMU loads kernels: same level, MMU off, x0 a tree.

    Nothing is said by the selector.
    """
    said = run(combine(lz4=lz4), f"console=ttyAMA0 arm64.pagesize={size.token}", features=features)
    assert said == Said(
        "", pages=PAGES[size], el=2 if features else 1, mmu=0, at_pa=FIRST_2_MIB, tree_pa=said.tree_pa,
        tree_magic=FDT_MAGIC_READ, other_arguments=0, filling=filling_of(size), daif=DAIF_MASKED,
        vectors=0,
    )  # fmt: skip
    assert said.tree_pa % 8 == 0


@pytest.mark.parametrize(
    ("cpu", "asked", "runs", "says"),
    [
        ("cortex-a57", "arm64.pagesize=16k", PageSize.K64, "this CPU has no 16K pages; starting the 64K"),
        ("cortex-a57", "arm64.pagesize=4k", PageSize.K4, ""),
        ("cortex-a57", "", PageSize.K64, ""),
        ("max", "arm64.pagesize=16k", PageSize.K16, ""),
        ("max", "", PageSize.K64, ""),
        ("neoverse-n1", "quiet", PageSize.K64, ""),
        ("neoverse-n1", "arm64.pagesize=8k", PageSize.K64, "is none of 4k, 16k, 64k; starting the 64K"),
        ("neoverse-n1", "arm64.pagesize=16k arm64.pagesize=8k", PageSize.K16, ""),
        ("neoverse-n1", "arm64.pagesize=16k arm64.pagesize=4k", PageSize.K4, ""),
    ],
)  # fmt: skip
def test_choice_on_real_cpus(
    combine: Combine, run: Callable[..., Said], cpu: str, asked: str, runs: PageSize, says: str
) -> None:
    """The CPU's own ID register decides; one line is said where the wish was not granted."""
    said = run(combine(), asked, cpu=cpu)
    assert said.page_size is runs
    assert bool(said.selector) is bool(says)
    assert says in said.selector
    assert said.selector.count("\n") == 0


def test_a_size_that_is_not_carried(combine: Combine, run: Callable[..., Said]) -> None:
    """Asked for a size that is not in the file, the largest that is runs, and a line says so."""
    image = combine((PageSize.K4, PageSize.K16))
    said = run(image, "arm64.pagesize=64k")
    assert said.page_size is PageSize.K16
    assert (
        said.selector == "granule selector: this Image has no kernel with 64K pages; starting the 16K kernel"
    )
    assert run(image, "", cpu="cortex-a57").page_size is PageSize.K4


def test_no_size_at_all(combine: Combine, run: Callable[..., Said]) -> None:
    """Where the CPU has none of the sizes the guest powers off with a line that names them."""
    image = bytearray(combine((PageSize.K4, PageSize.K16)))
    # Only its 16K kernel is left.
    image[MEMBERS_AT : MEMBERS_AT + MEMBER_BYTES] = image[MEMBERS_AT + MEMBER_BYTES :][:MEMBER_BYTES]
    image[MEMBERS_AT + MEMBER_BYTES :][:MEMBER_BYTES] = bytes(MEMBER_BYTES)
    struct.pack_into("<I", image, TABLE_AT + 16, 1)
    said = run(signed(image), "", cpu="cortex-a57")
    assert said.page_size is None
    assert (
        "this CPU has none of the page sizes of the kernels in this Image: 16K; powering off" in said.selector
    )


def signed(image: bytearray) -> bytes:
    """The Image with the table's checksum made right."""
    struct.pack_into(
        "<I", image, TABLE_AT + 12, zlib.crc32(image[TABLE_AT + 16 : MEMBERS_AT + 3 * MEMBER_BYTES])
    )
    return bytes(image)


@pytest.mark.parametrize("text_offset", [0x6000, 0x80000, 0x1FF000])
def test_text_offset(combine: Combine, run: Callable[..., Said], text_offset: int) -> None:
    """A kernel with a text_offset lies that far from the 2 MiB boundary, and is moved up to there whole.

    At 0x6000 it lies over part of its own copy in the file.
    """
    said = run(combine(text_offset=text_offset), "arm64.pagesize=4k")
    assert (said.at_pa, said.filling) == (FIRST_2_MIB + text_offset, filling_of(PageSize.K4))


@pytest.mark.parametrize("lz4", [False, True], ids=["stored", "lz4"])
def test_corrupt_member(combine: Combine, run: Callable[..., Said], lz4: bool) -> None:
    """A flipped bit in a kernel stops it before it runs; the other kernels still do."""
    image = bytearray(combine(lz4=lz4))
    offset, packed_bytes = struct.unpack_from("<2Q", image, MEMBERS_AT + MEMBER_BYTES + 16)
    image[offset + packed_bytes // 2] ^= 0x10
    said = run(bytes(image), "arm64.pagesize=16k")
    assert said.page_size is None
    assert said.selector.startswith("granule selector: the 16K kernel in this Image is corrupt: ")
    assert said.selector.endswith("; powering off")
    assert run(bytes(image), "arm64.pagesize=4k").page_size is PageSize.K4


@pytest.mark.parametrize("features", [(), (Feature.EL2,)], ids=["el1", "el2"])
def test_corrupt_table(combine: Combine, run: Callable[..., Said], features: tuple[Feature, ...]) -> None:
    """A flipped bit in the table stops it at either level, and so does a value out of range."""
    flipped = bytearray(combine())
    flipped[MEMBERS_AT + 20] ^= 1
    beyond = bytearray(combine())
    struct.pack_into("<Q", beyond, MEMBERS_AT + 16, 1 << 40)
    for image in (bytes(flipped), signed(beyond)):
        said = run(image, "arm64.pagesize=4k", features=features)
        assert said == Said("granule selector: the member table of this Image is corrupt; powering off")


@pytest.mark.parametrize(
    ("claimed", "what"),
    [((62 << 20) + 4096, "the initrd lies there"), (100 << 20, "the device tree lies there")],
)
def test_what_lies_in_the_way(combine: Combine, run: Callable[..., Said], claimed: int, what: str) -> None:
    """An initrd or a tree in the memory that is claimed is not overwritten: a line says so."""
    image = bytearray(combine())
    # In the table alone: QEMU, which goes by the header, keeps less free, and the initrd is at 64 MiB.
    struct.pack_into("<Q", image, TABLE_AT + 40, claimed)
    said = run(signed(image), "arm64.pagesize=4k")
    needs = f"granule selector: this Image needs {(claimed + 0xFFFFF) >> 20} MiB of memory from 0x40200000 on"
    assert said == Said(f"{needs}, and {what}; powering off")


def loader(combined: bytes, *, tree: bytes | None, offset: int = LOADED_AT) -> bytes:
    """An Image that enters a combined one at an offset in itself, with a tree of ours, or one out of RAM.

    Arm ARM C6.2: ADR, MOVZ and B.
    """
    adr_x0 = 0x10000000 | (TREE_AT - 64) >> 2 << 5
    x0 = 0xD2C00200 if tree is None else adr_x0  # movz x0, #0x10, lsl #32
    header = struct.pack("<2I3Q24x4sI", 0x14000000 | 64 >> 2, 0, 0, 16 << 20, 0x8, b"ARM\x64", 0)
    code = struct.pack("<2I", x0, 0x14000000 | (offset - 68) >> 2)
    return ((header + code).ljust(TREE_AT, b"\0") + (tree or b"")).ljust(offset, b"\0") + combined


def small_tree(bootargs: bytes) -> bytes:
    """A device tree with /chosen/bootargs and nothing else (Devicetree Specification v0.4, chapter 5)."""
    value = bootargs + b"\0"
    body = struct.pack(">I4xI8s3I", 1, 1, b"chosen", 3, len(value), 0)
    body += value + bytes(-len(value) % 4) + struct.pack(">3I", 2, 2, 9)
    total = 40 + len(body) + 9
    header = (0xD00DFEED, total, 40, 40 + len(body), 40, 17, 16, 0, 9, len(body))
    return struct.pack(">10I", *header) + body + b"bootargs\0"


def test_memory_that_is_not_there(combine: Combine, run: Callable[..., Said]) -> None:
    """A claim beyond the end of RAM is noticed, though the tree says nothing of memory."""
    image = bytearray(combine())
    struct.pack_into("<Q", image, TABLE_AT + 40, 1 << 30)
    said = run(loader(signed(image), tree=small_tree(b"arm64.pagesize=4k")))
    needs = "granule selector: this Image needs 1024 MiB of memory from 0x40400000 on"
    assert said == Said(f"{needs}, and there is less; powering off")


def test_only_chosen_is_needed(combine: Combine, run: Callable[..., Said]) -> None:
    """A tree with /chosen alone is enough, wherever the Image lies; a bad tree is told and passed on."""
    said = run(loader(combine(), tree=small_tree(b"arm64.pagesize=16k")))
    assert (said.page_size, said.at_pa, said.selector) == (PageSize.K16, FIRST_2_MIB + LOADED_AT, "")
    assert said.tree_pa == FIRST_2_MIB + TREE_AT
    said = run(loader(combine(), tree=small_tree(b"arm64.pagesize=16k")[:-20] + bytes(20)))
    assert said.page_size is PageSize.K64
    assert said.selector == "granule selector: the device tree cannot be read; starting the 64K kernel"


def test_where_it_cannot_run(combine: Combine, run: Callable[..., Said]) -> None:
    """Loaded at an odd place, or given a tree that is in no memory, it says so and powers off."""
    said = run(loader(combine(), tree=small_tree(b""), offset=LOADED_AT + 4096))
    place = "granule selector: loaded at 0x40401000, which is no multiple of 2 MiB"
    assert said == Said(f"{place}; powering off")
    for features in ((), (Feature.EL2,)):
        said = run(loader(combine(), tree=None), features=features)
        assert re.fullmatch(
            "granule selector: exception, "
            "ESR 0x9[67][0-9a-f]{4}10, ELR 0x[0-9a-f]+, FAR 0x1000000000; powering off",
            said.selector,
        )
