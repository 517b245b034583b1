"""Which kernel the selector starts: the rule, held against a statement of it in Python."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec import PageSize

Ask = Callable[[str, bytes], str]

K4, K16, K64 = (1 << size.value for size in PageSize)
NOTHING, NONSENSE = 0, 1


def asked_for(ask: Ask, bootargs: bytes) -> int:
    """What a command line asks for."""
    return int(ask("a", bootargs))


def sizes_of(ask: Ask, mmfr0: int) -> int:
    """The page sizes of a CPU."""
    return int(ask("s", struct.pack("=Q", mmfr0)))


def chosen_size(ask: Ask, asked: int, of_cpu: int, carried: int) -> int:
    """The page shift that is started."""
    return int(ask("c", struct.pack("=3Q", asked, of_cpu, carried)))


CPUS = (
    # ID_AA64MMFR0_EL1 of QEMU's models (target/arm/cpu64.c), and values that only the manual knows.
    ("cortex-a57", 0x0000_1124, K4 | K64),
    ("cortex-a53", 0x0000_1122, K4 | K64),
    ("neoverse-n1", 0x0010_1125, K4 | K16 | K64),
    ("a64fx", 0x0000_1125, K4 | K64),
    ("max with LPA2", 0x0000_0000_1220_1126 | 2 << 40, K4 | K16 | K64),
    ("LPA2 at 4K", 0x1 << 28 | 0x2 << 20, K4 | K16 | K64),
    ("16K only, as Apple's might", 0xF << 28 | 0xF << 24 | 0x1 << 20, K16),
    ("none at all", 0xF << 28 | 0xF << 24, 0),
    ("64K only", 0xF << 28, K64),
    ("4K only", 0xF << 24, K4),
    ("reserved, signed: negative", 0x8 << 28 | 0x8 << 24 | 0xF << 20, K16),
    ("reserved, signed: positive", 0x7 << 28 | 0x7 << 24, K4 | K64),
    ("stage 2 fields say nothing", 0xF << 28 | 0xF << 24 | 0x222 << 32, 0),
)


@pytest.mark.parametrize(("mmfr0", "sizes"), [cpu[1:] for cpu in CPUS], ids=[cpu[0] for cpu in CPUS])
def test_sizes_of_a_cpu(ask: Ask, mmfr0: int, sizes: int) -> None:
    """TGran4 and TGran64 are signed and 0 means yes; TGran16 is unsigned and 0 means no."""
    assert sizes_of(ask, mmfr0) == sizes


LINES = (
    (b"", NOTHING),
    (b"console=ttyAMA0", NOTHING),
    (b"arm64.pagesize=4k", 12),
    (b"arm64.pagesize=16k", 14),
    (b"arm64.pagesize=64k", 16),
    (b"arm64.pagesize=64K", NONSENSE),
    (b"arm64.pagesize=", NONSENSE),
    (b"arm64.pagesize", NOTHING),
    (b"arm64.pagesize=4k,16k", NONSENSE),
    (b"arm64.pagesize=16k arm64.pagesize=8k", 14),
    (b"arm64.pagesize=8k arm64.pagesize=16k", 14),
    (b"arm64.pagesize=16k arm64.pagesize=4k quiet", 12),
    (b"xarm64.pagesize=4k", NOTHING),
    (b"Arm64.pagesize=4k", NOTHING),
    (b"a\tarm64.pagesize=4k\nb", 12),
    (b"a\xa0arm64.pagesize=4k\xa0b", 12),
    (b"\xc2arm64.pagesize=4k", NOTHING),
    (b"-- arm64.pagesize=4k", NOTHING),
    (b"arm64.pagesize=16k -- arm64.pagesize=4k", 14),
    (b"--x arm64.pagesize=4k", 12),
    (b'init="arm64.pagesize=4k"', NOTHING),
    (b'"arm64.pagesize=4k"', NOTHING),
    (b"arm64.pagesize=4k\xff", NONSENSE),
    (b"x" * 255 + b"arm64.pagesize=4k", 12),
    (b"x" * 254 + b"arm64.pagesize=4k", NOTHING),
)


@pytest.mark.parametrize(("line", "asked"), LINES, ids=[line[:40].decode("latin-1") for line, _ in LINES])
def test_command_lines(ask: Ask, line: bytes, asked: int) -> None:
    """The last value that is one counts, letter for letter, up to a `--`."""
    assert asked_for(ask, line) == asked


def asked_by_rule(line: bytes) -> int:
    """The rule in Python: words as __parse_cmdline() of the kernel's idreg-override.c cuts them."""
    recognised = {b"arm64.pagesize=" + size.token.encode(): size.value for size in PageSize}
    values: list[int] = []
    nonsense = False
    for match in re.finditer(rb"[^ \t-\r\xa0]{1,255}", line):
        if match[0] == b"--" and match.end() < len(line):
            break
        if re.match(rb"--[ \t-\r\xa0]", line[match.start() : match.start() + 3]):
            break
        if match[0] in recognised:
            values.append(recognised[match[0]])
        nonsense |= match[0].startswith(b"arm64.pagesize=")
    return values[-1] if values else NONSENSE if nonsense else NOTHING


WORDS = st.sampled_from(
    [f"arm64.pagesize={value}".encode() for value in ("4k", "16k", "64k", "4K", "8k", "", "4", "65k")]
    + [b"--", b"-", b"quiet", b"\xa0", b"\t", b"=", b"arm64.pagesize", b"x" * 250]
)
GAPS = st.sampled_from([b" ", b"", b"\n", b"  ", b"\xa0"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(WORDS, GAPS), max_size=12).map(lambda parts: b"".join(w + g for w, g in parts)))
def test_command_lines_by_the_rule(ask: Ask, line: bytes) -> None:
    """Any command line asks for what the rule, stated in Python, says."""
    assert asked_for(ask, line) == asked_by_rule(line)


SETS = st.sets(st.sampled_from([K4, K16, K64])).map(sum)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([NOTHING, NONSENSE, 12, 13, 14, 15, 16, 17, 2**32 - 1]), SETS, SETS)
def test_choice(ask: Ask, asked: int, of_cpu: int, carried: int) -> None:
    """What is asked for is started where CPU and file have it, else the largest that both have."""
    both = [shift for shift in (12, 14, 16) if (of_cpu & carried) >> shift & 1]
    wanted = asked if asked in both else max(both, default=0)
    assert chosen_size(ask, asked, of_cpu, carried) == wanted


