"""kallsyms tables, written here as scripts/kallsyms.c writes them and read back."""

from __future__ import annotations

import random
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.linux.kallsyms import DEFAULT_TEXT_VA, Symbol, SymbolTable, read_kallsyms

TEXT_VA = 0xFFFF_C000_8000_0000
PAIRS = ("__", "vfs", "re", "ad", "kernel_", "_init", "arm64", "lock")


def some_symbols(count: int) -> list[tuple[int, str]]:
    """(offset from _text, name) as nm would sort them, with one alias and one name longer than 127 bytes."""
    numbers = random.Random(64)  # noqa: S311 - test data
    symbols = [(0, "_text"), (0, "_head"), (0x10000, "_stext")]
    at = 0x10000
    for n in range(count):
        at += numbers.randrange(4, 400, 4)
        symbols.append((at, f"{numbers.choice(PAIRS)}{numbers.choice(PAIRS)}_{n}"))
    symbols.append((at + 64, "very_" + "long" * 60))
    symbols.append((at + 0x1000, "_end"))
    return symbols


def compress(name: str, tokens: list[bytes]) -> bytes:
    """Type letter and name in tokens, greedily: any encoding that expands to the name will do."""
    left = b"T" + name.encode()
    coded = bytearray()
    while left:
        code = max((len(t), c) for c, t in enumerate(tokens) if t and left.startswith(t))[1]
        coded.append(code)
        left = left[len(tokens[code]) :]
    size = len(coded)
    prefix = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return prefix + bytes(coded)


class Writer:
    """Lays sections out with 8-byte alignment, as output_label() does, in an Image of other bytes."""

    def __init__(self) -> None:
        self.image = bytearray(b"\x1f\x20\x03\xd5" * 4096)

    def add(self, section: bytes) -> int:
        self.image += bytes(-len(self.image) % 8)
        at = len(self.image)
        self.image += section
        return at


def build(symbols: list[tuple[int, str]], *, layout: str = "6.4", base: str = "rela") -> bytes:
    """An Image with the tables of a layout; base: where relative_base is (inline, rela, nowhere)."""
    tokens = [bytes([c]) if chr(c).isalnum() or chr(c) == "_" else b"" for c in range(256)]
    for code, pair in enumerate(PAIRS, 0x80):
        tokens[code] = pair.encode()
    names = [compress(name, tokens) for _, name in symbols]
    markers = [sum(map(len, names[:n])) for n in range(0, len(names), 256)]
    table = b"".join(token + b"\0" for token in tokens)
    index = [sum(len(token) + 1 for token in tokens[:n]) for n in range(256)]
    offsets = struct.pack(f"<{len(symbols)}I", *(offset for offset, _ in symbols))
    relative_base = struct.pack("<Q", TEXT_VA if base == "inline" else 0)
    writer = Writer()
    base_at = 0
    if layout == "6.1":
        writer.add(offsets)
        base_at = writer.add(relative_base)
    writer.add(struct.pack("<I", len(symbols)))
    writer.add(b"".join(names))
    writer.add(struct.pack(f"<{len(markers)}I", *markers))
    writer.add(table)
    writer.add(struct.pack("<256H", *index))
    if layout == "6.4":
        writer.add(offsets)
        base_at = writer.add(relative_base)
    if layout == "place":
        at = writer.add(b"")
        writer.add(b"".join(struct.pack("<i", o - at - 4 * n) for n, (o, _) in enumerate(symbols)))
    writer.add(bytes(3 * len(symbols)))
    if base == "rela":
        for at, addend in ((0x4000, TEXT_VA + 0x123450), (base_at, TEXT_VA), (0x4008, TEXT_VA + 8)):
            writer.add(struct.pack("<QQQ", TEXT_VA + at, 0x403, addend))
    return bytes(writer.image) + bytes(4096)


@pytest.mark.parametrize("layout", ["6.4", "6.1", "place"])
@pytest.mark.parametrize("count", [10, 252, 253, 600, 1275])
def test_all_symbols_come_back(layout: str, count: int) -> None:
    """In each layout, with any fill of the last group of 256, every name is at its address."""
    symbols = some_symbols(count)
    table = read_kallsyms(build(symbols, layout=layout))
    assert table is not None
    assert table.base == TEXT_VA
    assert list(table) == [(TEXT_VA + offset, name) for offset, name in symbols]


@pytest.mark.parametrize(
    ("base", "wanted"), [("inline", TEXT_VA), ("rela", TEXT_VA), ("nowhere", DEFAULT_TEXT_VA)]
)
def test_text_address_from_wherever_it_is(base: str, wanted: int) -> None:
    """relative_base in place (RELR), from its relocation (RELA), or else the usual address."""
    table = read_kallsyms(build(some_symbols(300), base=base))
    assert table is not None
    assert table.base == table.address_of("_text") == wanted


def test_lookup_names_address_offset_and_size() -> None:
    """The covering symbol, its first name among aliases, the distance to the next; nothing outside."""
    table = SymbolTable([(0x1000, "_text"), (0x1000, "_head"), (0x1040, "second"), (0x1100, "_end")])
    assert table.lookup(0x1000) == Symbol("_text", 0, 0x40)
    assert table.lookup(0x103F) == Symbol("_text", 0x3F, 0x40)
    assert str(table.lookup(0x1044)) == "second+0x4/0xc0"
    assert table.lookup(0x1100) == Symbol("_end", 0, 0)
    for outside in (0, 0xFFF, 0x1101, 1 << 64, -1):
        assert table.lookup(outside) is None


def test_end_of_the_kernel_covers_nothing() -> None:
    """An address between `_end` and a module's first symbol belongs to neither."""
    table = SymbolTable([(0x1000, "_text"), (0x1100, "_end"), (0x9000, "mod")])
    assert table.lookup(0x1200) is None


def test_image_without_tables_is_none() -> None:
    """Noise, zeros, nothing, and the digits alone are not taken for kallsyms."""
    digits = b"".join(b"%d\0" % n for n in range(10))
    for image in (b"", bytes(1 << 20), random.Random(1).randbytes(1 << 16), digits * 5000):  # noqa: S311
        assert read_kallsyms(image) is None


def test_missing_addresses_are_an_error_that_says_so() -> None:
    """Names without their addresses are a damaged Image, not one without kallsyms."""
    symbols = some_symbols(300)
    whole = build(symbols, base="nowhere")
    cut = whole[: -4096 - 8 - 3 * len(symbols) - 4 * len(symbols) // 2]
    with pytest.raises(UsageError, match="no table of their addresses"):
        read_kallsyms(cut)


IMAGE = build(some_symbols(600))


@given(at=st.integers(16384, len(IMAGE) - 1), damage=st.binary(min_size=1, max_size=64))
def test_damage_gives_none_or_a_clear_error(at: int, damage: bytes) -> None:
    """Whatever is overwritten, the answer is a table, None or UsageError."""
    image = bytearray(IMAGE)
    image[at : at + len(damage)] = damage
    try:
        table = read_kallsyms(bytes(image))
    except UsageError:
        return
    assert table is None or len(table) == 605


@given(st.integers(0, len(IMAGE)))
def test_truncation_gives_none_or_a_clear_error(end: int) -> None:
    """A short Image does not make it read beyond the end."""
    try:
        read_kallsyms(IMAGE[:end])
    except UsageError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either outcome is right


def test_hostile_digits_do_not_take_long() -> None:
    """Megabytes of what looks like the start of a token table are given up on quickly."""
    started = time.monotonic()
    assert read_kallsyms((b"\0" * 48 + b"".join(b"%d\0" % n for n in range(10))) * 200_000) is None
    assert time.monotonic() - started < 5
