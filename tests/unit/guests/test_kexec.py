"""The guest's kexec program: its arguments, and the parts of it that a kernel is not needed for.

Compiled for this machine, where it starts no kernel: what it would do elsewhere than on arm64 is nothing, and
on arm64 these tests never give it arguments that are right.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.paths import data_dir

SOURCES = data_dir("guests") / "programs" / "kexec"
FLAGS = ("-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
BEGIN, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
MAX_RANGES = 64
RANDOM = bytes(range(1, 41))
IOMEM = """\
09000000-09000fff : pl011@9000000
40000000-5fffffff : System RAM
  40210000-4119ffff : Kernel code
  4f600000-5b5fffff : Crash kernel
80000000-87ffffff : System RAM
"""


class Range(ctypes.Structure):
    """struct range."""

    _fields_ = (("start", ctypes.c_uint64), ("end", ctypes.c_uint64))


class Ranges(ctypes.Structure):
    """struct ranges."""

    _fields_ = (("count", ctypes.c_size_t), ("at", Range * MAX_RANGES))


class Boot(ctypes.Structure):
    """struct boot."""

    _fields_ = (
        ("command_line", ctypes.c_char_p), ("initrd", Range), ("elf_header", Range), ("usable", Range),
        ("random", ctypes.c_char_p),
    )  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole program."""
    return _compiled(tmp_path_factory, "kexec", sorted(SOURCES.glob("*.c")))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The parts that need no kernel."""
    files = [SOURCES / "fdt.c", SOURCES / "memory.c"]
    loaded = ctypes.CDLL(str(_compiled(tmp_path_factory, "kexec.so", files, "-shared", "-fPIC")))
    loaded.next_fdt.restype = loaded.elf_core_header.restype = ctypes.c_void_p
    return loaded


def _compiled(factory: pytest.TempPathFactory, name: str, files: list[Path], *flags: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    target = factory.mktemp("kexec") / name
    subprocess.run(["gcc", *FLAGS, *flags, "-o", target, *files], check=True)
    return target


@pytest.mark.parametrize(
    "words",
    [
        (), ("--load",), ("Image",), ("--exec", "--load", "Image"), ("--exec", "--panic"),
        ("--exec", "--initrd", "x"), ("--exec", "--command-line", "x"), ("--load", "Image", "more"),
        ("--load", "Image", "--syscall", "other"), ("--unknown",), ("--initrd", "x"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(program: Path, words: tuple[str, ...]) -> None:
    """They are status 2, and a usage that names every option."""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert all(
        option in done.stderr for option in ("--load", "--initrd", "--command-line", "--panic", "--exec")
    )


def test_help(program: Path) -> None:
    """It is on stdout, with status 0."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: kexec --load IMAGE")


# A flattened device tree, made and read by the Devicetree Specification, chapter 5.


def _prop(strings: bytearray, name: str, value: bytes) -> bytes:
    at = strings.find(name.encode() + b"\0")
    if at < 0:
        at = len(strings)
        strings += name.encode() + b"\0"
    return struct.pack(">III", PROP, len(value), at) + value + bytes(-len(value) % 4)


def _node(name: str, *inside: bytes) -> bytes:
    padded = name.encode() + bytes(4 - len(name) % 4)
    return struct.pack(">I", BEGIN) + padded + b"".join(inside) + struct.pack(">I", END_NODE)


def _tree(
    chosen: dict[str, bytes] | None = None, reserved: tuple[tuple[int, int], ...] = (), cells: int = 2
) -> bytes:
    strings = bytearray()
    number = struct.pack(">I", cells)
    inside = [_prop(strings, "#address-cells", number), _prop(strings, "#size-cells", number)]
    inside.append(_node("memory@40000000", _prop(strings, "reg", bytes(16))))
    if chosen is not None:
        parts = [_prop(strings, name, value) for name, value in chosen.items()]
        inside.append(_node("chosen", *parts, struct.pack(">I", NOP), _node("below")))
        inside.append(_node("device", _prop(strings, "rng-seed", b"its own")))
    structure = _node("", *inside) + struct.pack(">I", END)
    entries = b"".join(struct.pack(">QQ", *entry) for entry in (*reserved, (0, 0)))
    at = 40 + len(entries)
    strings_at = at + len(structure)
    head = (
        0xD00DFEED,
        strings_at + len(strings),
        at,
        strings_at,
        40,
        17,
        16,
        0,
        len(strings),
        len(structure),
    )
    return struct.pack(">10I", *head) + entries + structure + bytes(strings)


def _read(tree: bytes) -> tuple[dict[str, dict[str, bytes]], list[tuple[int, int]]]:
    """Properties by node's path, and the map of reserved memory."""
    head = struct.unpack(">10I", tree[:40])
    assert head[0] == 0xD00DFEED
    assert head[1] == len(tree)
    reserved = list(struct.iter_unpack(">QQ", tree[head[4] : head[2]]))
    at, path = head[2], []
    found: dict[str, dict[str, bytes]] = {}
    while True:
        (token,) = struct.unpack_from(">I", tree, at)
        at += 4
        if token == BEGIN:
            name = tree[at : tree.index(b"\0", at)].decode()
            at += len(name) + 4 - len(name) % 4
            path.append(name)
            found["/".join(path)] = {}
        elif token == END_NODE:
            path.pop()
        elif token == PROP:
            size, where = struct.unpack_from(">II", tree, at)
            name_at = head[3] + where
            name = tree[name_at : tree.index(b"\0", name_at)].decode()
            assert name not in found["/".join(path)], name
            found["/".join(path)][name] = tree[at + 8 : at + 8 + size]
            at += 8 + size + -size % 4
        elif token == END:
            assert at == head[2] + head[9]
            return found, [(start, size) for start, size in reserved if size]
        else:
            assert token == NOP


def _next(library: Any, tree: bytes, **boot: Any) -> bytes | str:
    """The tree for the next kernel, or what was wrong with this one."""
    size, problem = ctypes.c_size_t(), ctypes.c_char_p()
    wanted = Boot(random=RANDOM, **boot)
    made = library.next_fdt(tree, ctypes.c_size_t(len(tree)), ctypes.byref(wanted), ctypes.byref(size),
                            ctypes.byref(problem))  # fmt: skip
    return ctypes.string_at(made, size.value) if made else (problem.value or b"").decode()


def _made(
    library: Any, tree: bytes, **boot: Any
) -> tuple[dict[str, dict[str, bytes]], list[tuple[int, int]]]:
    made = _next(library, tree, **boot)
    assert isinstance(made, bytes), made
    return _read(made)


def test_what_the_next_kernel_is_told(library: Any) -> None:
    """/chosen has its command line, initrd, ELF header, memory and fresh seeds, in cells of 64 bits."""
    old = _tree(
        {"bootargs": b"old\0", "stdout-path": b"/pl011\0", "kaslr-seed": bytes(8), "rng-seed": bytes(32)}
    )
    found, _ = _made(
        library, old, command_line=b"new line", initrd=Range(0x4400_0000, 0x4500_0001),
        elf_header=Range(0x5000_0000, 0x5000_1000), usable=Range(0x4F60_0000, 0x5B60_0000),
    )  # fmt: skip
    assert found["/chosen"] == {
        "bootargs": b"new line\0",
        "linux,initrd-start": struct.pack(">Q", 0x4400_0000),
        "linux,initrd-end": struct.pack(">Q", 0x4500_0001),
        "linux,elfcorehdr": struct.pack(">QQ", 0x5000_0000, 0x1000),
        "linux,usable-memory-range": struct.pack(">QQ", 0x4F60_0000, 0xC00_0000),
        "kaslr-seed": RANDOM[:8],
        "rng-seed": RANDOM[8:],
        "linux,booted-from-kexec": b"",
        "stdout-path": b"/pl011\0",
    }


def test_what_a_kexec_left_goes(library: Any) -> None:
    """A kernel that came by kexec, or that captured a crash, hands none of that on, reservations included."""
    old = _tree(
        {
            "linux,initrd-start": struct.pack(">Q", 0x4800_0000),
            "linux,initrd-end": struct.pack(">Q", 0x4800_2000),
            "linux,elfcorehdr": struct.pack(">QQ", 0x5FE0_0000, 0x1000),
            "linux,usable-memory-range": bytes(16), "linux,booted-from-kexec": b"",
        },
        reserved=((0x4800_0000, 0x2000), (0x4000_0000, 0x1000), (0x5FE0_0000, 0x1000)),
    )  # fmt: skip
    found, reserved = _made(library, old, command_line=b"x")
    assert set(found["/chosen"]) == {"bootargs", "kaslr-seed", "rng-seed", "linux,booted-from-kexec"}
    assert reserved == [(0x4000_0000, 0x1000)]


def test_the_rest_of_the_tree_stays(library: Any) -> None:
    """Every other node and property is as it was, and so are nodes below /chosen."""
    old = _tree({"bootargs": b"a\0"})
    found, _ = _made(library, old, command_line=b"b")
    before, _ = _read(old)
    assert {path: found[path] for path in before if path != "/chosen"} == {
        path: values for path, values in before.items() if path != "/chosen"
    }


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (b"", "no flattened device tree"),
        (b"\0" * 64, "no flattened device tree"),
        (_tree({})[:-1], "no flattened device tree"),
        (_tree({})[:-1] + b"x", "no flattened device tree"),
        (_tree(None), "no /chosen"),
        (_tree({}, cells=1), "two cells"),
        (_tree({}).replace(struct.pack(">I", END), struct.pack(">I", 7)), "token of no kind"),
        (_tree({}).replace(struct.pack(">II", END_NODE, END), struct.pack(">II", NOP, END)), "inside a node"),
    ],
)
def test_trees_that_are_none(library: Any, tree: bytes, why: str) -> None:
    """A device tree that cannot be one is refused, saying why."""
    assert why in str(_next(library, tree, command_line=b"x"))


def test_no_cut_or_flipped_tree_is_read_beyond_its_end(tmp_path: Path) -> None:
    """Whatever bytes a tree has, nothing outside of it is touched: with every byte damaged, under ASan."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    tree = tmp_path / "tree"
    tree.write_bytes(_tree({"bootargs": b"a\0", "linux,elfcorehdr": bytes(16)}, reserved=((1, 2),)))
    program = tmp_path / "flip"
    files = [Path(__file__).with_name("kexec_flip.c"), SOURCES / "fdt.c"]
    argv = ["gcc", *FLAGS, "-fsanitize=address,undefined", f"-I{SOURCES}", "-o", str(program), *map(str, files)]
    if "asan" in (built := subprocess.run(argv, capture_output=True, text=True, check=False)).stderr:
        pytest.skip("needs libasan, which comes with gcc")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, tree], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _iomem(library: Any, path: Path, name: str) -> tuple[int, list[tuple[int, int]]]:
    found, problem = Ranges(), ctypes.c_char_p()
    status = library.read_iomem(str(path).encode(), name.encode(), ctypes.byref(found), ctypes.byref(problem))
    return status, [(one.start, one.end) for one in found.at[: found.count]]


def test_iomem(library: Any, tmp_path: Path) -> None:
    """Ranges are found by name at any depth, their ends counted in; without rights it has zeros, and fails."""
    path = tmp_path / "iomem"
    path.write_text(IOMEM)
    assert _iomem(library, path, "System RAM") == (
        0,
        [(0x4000_0000, 0x6000_0000), (0x8000_0000, 0x8800_0000)],
    )
    assert _iomem(library, path, "Crash kernel") == (0, [(0x4F60_0000, 0x5B60_0000)])
    assert _iomem(library, path, "Kernel") == (0, [])
    path.write_text("00000000-00000000 : System RAM\n")
    assert _iomem(library, path, "System RAM")[0] == -1
    assert _iomem(library, tmp_path / "none", "System RAM")[0] == -1


def _sysfs(root: Path, cpus: int) -> None:
    for cpu in range(cpus):
        home = root / f"devices/system/cpu/cpu{cpu}"
        home.mkdir(parents=True)
        (home / "crash_notes").write_text(f"{0x4300_0000 + 0x1000 * cpu:x}\n")
        (home / "crash_notes_size").write_text("408\n")
    (root / "kernel").mkdir(exist_ok=True)
    (root / "kernel/vmcoreinfo").write_text("0x0000000042000000 2024\n")


def _header(
    library: Any, root: Path, ram: list[tuple[int, int]], crash: tuple[int, int]
) -> list[tuple[int, ...]]:
    size, problem = ctypes.c_size_t(), ctypes.c_char_p()
    ranges = Ranges(count=len(ram))
    for number, one in enumerate(ram):
        ranges.at[number] = Range(*one)
    made = library.elf_core_header(str(root).encode(), ctypes.byref(ranges), ctypes.byref(Range(*crash)),
                                   ctypes.byref(size), ctypes.byref(problem))  # fmt: skip
    if not made:
        return []
    data = ctypes.string_at(made, size.value)
    ident, kind, machine, _, _, at, _, _, head, entry, count, *_ = struct.unpack(
        "<16sHHIQQQIHHHHHH", data[:64]
    )
    assert (ident[:7], kind, machine, at, head, entry) == (b"\x7fELF\x02\x01\x01", 4, 183, 64, 64, 56)
    assert len(data) == 64 + 56 * count
    rows = struct.iter_unpack("<IIQQQQQQ", data[64:])
    return [(row[0], row[2], row[4], row[5], row[6]) for row in rows]


def test_the_header_of_a_dump(library: Any, tmp_path: Path) -> None:
    """A note of each CPU, VMCOREINFO, and all RAM but what the crash kernel runs in, by physical address."""
    _sysfs(tmp_path, 2)
    ram = [(0x4000_0000, 0x6000_0000), (0x8000_0000, 0x8800_0000)]
    assert _header(library, tmp_path, ram, (0x4F60_0000, 0x5B60_0000)) == [
        (4, 0x4300_0000, 0x4300_0000, 408, 408),
        (4, 0x4300_1000, 0x4300_1000, 408, 408),
        (4, 0x4200_0000, 0x4200_0000, 0x2024, 0x2024),
        (1, 0x4000_0000, 0x4000_0000, 0xF60_0000, 0xF60_0000),
        (1, 0x5B60_0000, 0x5B60_0000, 0x4A0_0000, 0x4A0_0000),
        (1, 0x8000_0000, 0x8000_0000, 0x800_0000, 0x800_0000),
    ]


def test_a_crash_kernel_at_an_end(library: Any, tmp_path: Path) -> None:
    """Where it takes an end of RAM there is one piece left, and where it takes all, none."""
    _sysfs(tmp_path, 1)
    ram = [(0x4000_0000, 0x6000_0000)]
    for crash, left in (
        ((0x4000_0000, 0x5000_0000), [0x5000_0000]), ((0x5000_0000, 0x6000_0000), [0x4000_0000]),
        ((0x4000_0000, 0x6000_0000), []),
    ):  # fmt: skip
        rows = _header(library, tmp_path, ram, crash)
        assert [row[2] for row in rows if row[0] == 1] == left


def test_a_kernel_without_crash_notes(library: Any, tmp_path: Path) -> None:
    """No header is made of a kernel that says nothing of its CPUs' notes."""
    assert _header(library, tmp_path, [(0, 1 << 20)], (0, 0)) == []
