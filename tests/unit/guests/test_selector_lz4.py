"""The selector's CRC-32 and LZ4 decoder, held against zlib and the lz4 program."""

from __future__ import annotations

import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.linux.lz4 import pack_lz4

Ask = Callable[[str, bytes], str]


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_crc32(ask: Ask, data: bytes) -> None:
    """The CRC is zlib's."""
    assert int(ask("r", data)) == zlib.crc32(data)


def unpack(ask: Ask, packed: bytes, room: int) -> tuple[int, int]:
    """Bytes unpacked (-1: refused), and their CRC-32."""
    got, crc32 = ask("l", struct.pack("=Q", room) + packed).split()
    return int(got), int(crc32)


CONTENTS = {
    "one byte": b"x",
    "twelve bytes": b"abcdefghijkl",
    "a run": b"a" * 100_000,
    "a run of eights": b"abcdefgh" * 9000,
    "noise": random.Random(3).randbytes(70_000),
    "words": b" ".join(random.Random(4).choices([b"page", b"size", b"kernel", b"x", b"granule"], k=40_000)),
    "more than a block": bytes(9 << 20) + b"end",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_lz4(ask: Ask, tmp_path: Path, content: bytes) -> None:
    """What lz4 packed is unpacked, into exactly the room it needs, and not into a byte less."""
    if shutil.which("lz4") is None:
        pytest.skip("needs lz4: apt-get install lz4")
    (tmp_path / "file").write_bytes(content)
    packed = pack_lz4(tmp_path / "file")
    assert unpack(ask, packed, len(content)) == (len(content), zlib.crc32(content))
    assert unpack(ask, packed, len(content) - 1) == (-1, 0)
    assert unpack(ask, packed[:-1], len(content)) == (-1, 0)
    assert unpack(ask, b"\0" + packed[1:], len(content)) == (-1, 0)


def test_hostile_lz4(ask: Ask, tmp_path: Path) -> None:
    """Damaged data is refused or gives other bytes, without a byte read or written outside."""
    if shutil.which("lz4") is None:
        pytest.skip("needs lz4: apt-get install lz4")
    content = CONTENTS["words"][:4000]
    (tmp_path / "file").write_bytes(content)
    packed = pack_lz4(tmp_path / "file")
    chance = random.Random(5)
    refused = 0
    for _ in range(2000):
        data = bytearray(packed)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(4, len(data))] = chance.choice((0, 255, chance.randrange(256)))
        refused += unpack(ask, bytes(data), len(content))[0] < 0
    assert refused > 500
    for blocks in (b"\x01", b"\xff\xff\xff\xff", struct.pack("<I", 0), struct.pack("<I", 3) + b"\x00\x00\x00"):
        assert unpack(ask, packed[:4] + blocks, 100) == (-1, 0)
    back_before_start = struct.pack("<I", 5) + b"\x10" + b"x" + b"\x02\x00" + b"\x00"
    assert unpack(ask, packed[:4] + back_before_start, 100) == (-1, 0)
