"""What the selector reads from a device tree, which is anybody's: it believes nothing of it.

Trees are laid out here from the Devicetree Specification v0.4, chapter 5.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

Ask = Callable[[str, bytes], str]

MAGIC = 0xD00DFEED
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9


def word(value: int) -> bytes:
    """A big-endian cell."""
    return struct.pack(">I", value)


def padded(data: bytes) -> bytes:
    """Data with what brings it to four bytes."""
    return data + bytes(-len(data) % 4)


@dataclass
class Node:
    """A node: its properties in order, then its children."""

    name: str = ""
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def flat(self, strings: bytearray) -> bytes:
        """Its part of the structure block; names of properties go to `strings`."""
        parts = [word(BEGIN_NODE), padded(self.name.encode() + b"\0")]
        for name, value in self.properties:
            parts += [word(PROP), word(len(value)), word(len(strings)), padded(value)]
            strings += name.encode() + b"\0"
        parts += [child.flat(strings) for child in self.children]
        return b"".join([*parts, word(END_NODE)])


def flatten(root: Node, *, version: int = 17, last: int = 16) -> bytes:
    """A whole tree."""
    strings = bytearray()
    structure = root.flat(strings) + word(END)
    struct_at = 40 + 16
    strings_at = struct_at + len(structure)
    total = strings_at + len(strings)
    header = struct.pack(
        ">10I", MAGIC, total, struct_at, strings_at, 40, version, last, 0, len(strings), len(structure)
    )
    return header + bytes(16) + structure + bytes(strings)


def chosen(bootargs: str, **properties: bytes) -> bytes:
    """A tree such as QEMU makes, as far as the selector is concerned."""
    others = [(name.replace("_", "-").replace("linux-", "linux,"), value) for name, value in properties.items()]
    return flatten(
        Node(
            properties=[("compatible", b"linux,dummy-virt\0"), ("#address-cells", word(2))],
            children=[
                Node("psci", [("method", b"hvc\0")]),
                Node("memory@40000000", [("reg", bytes(16))]),
                Node("chosen", [("stdout-path", b"/pl011@9000000\0"), ("bootargs", bootargs.encode() + b"\0"), *others]),
                Node("apb-pclk", [("bootargs", b"arm64.pagesize=16k\0")]),
            ],
        )
    )


def read_tree(ask: Ask, data: bytes) -> tuple[bool, bytes | None, int, int]:
    """Whether a tree is sound, its bootargs, and where the initrd starts and ends."""
    sound, _, start, end, text = ask("f", data).split(" ")
    return sound == "1", None if text == "-" else bytes.fromhex(text.rstrip(".")), int(start), int(end)


def test_a_tree_like_qemus(ask: Ask) -> None:
    """bootargs come from /chosen alone, and the initrd's place in cells of 4 or 8 bytes."""
    line = "console=ttyAMA0 arm64.pagesize=4k"
    for four in (True, False):
        cells = ">I" if four else ">Q"
        tree = chosen(line, linux_initrd_start=struct.pack(cells, 0x48000000), linux_initrd_end=struct.pack(cells, 0x48001000))
        assert read_tree(ask, tree) == (True, line.encode(), 0x48000000, 0x48001000)
    assert read_tree(ask, chosen("", linux_initrd_start=word(5)))[2:] == (0, 0)
    backwards = chosen("", linux_initrd_start=word(9), linux_initrd_end=word(5))
    assert read_tree(ask, backwards)[2:] == (0, 0)
    odd = chosen("", linux_initrd_start=b"abc", linux_initrd_end=word(5))
    assert read_tree(ask, odd) == (True, b"", 0, 0)


def test_where_bootargs_count(ask: Ask) -> None:
    """Of two the first counts; a unit address is no other name; elsewhere than in /chosen they do not."""
    args = ("bootargs", b"one\0")
    for name, found in (("chosen", b"one"), ("chosen@0", b"one"), ("chosen2", None), ("chose", None)):
        assert read_tree(ask, flatten(Node(children=[Node(name, [args])])))[:2] == (True, found), name
    twice = Node("chosen", [args, ("bootargs", b"two\0")])
    assert read_tree(ask, flatten(Node(children=[twice, Node("chosen", [("bootargs", b"3\0")])])))[1] == b"one"
    deeper = Node("chosen", children=[Node("chosen", [args]), Node("module@1", [args])])
    assert read_tree(ask, flatten(Node(children=[deeper])))[:2] == (True, None)
    assert read_tree(ask, flatten(Node(properties=[args])))[:2] == (True, None)
    assert read_tree(ask, flatten(Node(children=[Node("x", children=[Node("chosen", [args])])])))[1] is None
    before = Node("x", children=[Node("chosen", [("bootargs", b"two\0")])])
    assert read_tree(ask, flatten(Node(children=[before, Node("chosen", [args])])))[1] == b"one"
    unended = Node("chosen", [("bootargs", b"no end"), ("bootargsx", b"other\0")])
    assert read_tree(ask, flatten(Node(children=[unended])))[:2] == (True, b"no end")
    assert read_tree(ask, flatten(Node(children=[Node("chosen", [("bootargs", b"")])])))[:2] == (True, b"")


def test_a_property_at_the_very_end(ask: Ask) -> None:
    """A value whose padding would lie behind the structure block, which ends the tree, is not skipped past."""
    structure = word(BEGIN_NODE) + bytes(4) + word(PROP) + word(5) + word(0) + b"value"
    header = struct.pack(">10I", MAGIC, 60 + len(structure), 60, 56, 40, 17, 16, 0, 4, len(structure))
    assert read_tree(ask, header + bytes(16) + b"abc\0" + structure) == (False, None, 0, 0)


def test_names_outside_of_the_strings(ask: Ask) -> None:
    """A property whose name lies behind the strings block, or wraps around to before it, breaks the tree."""
    tree = flatten(Node(children=[Node("chosen", [("bootargs", b"x\0")])]))
    at = tree.index(word(PROP) + word(2)) + 8
    for name in (9, 0x7FFFFFFF, 0xFFFFFFFF, 0x100000000 - 56):
        assert read_tree(ask, tree[:at] + word(name) + tree[at + 4 :])[0] is False


def test_versions_of_trees(ask: Ask) -> None:
    """A tree that a reader of version 17 can read is read, and no other."""
    root = Node(children=[Node("chosen", [("bootargs", b"x\0")])])
    for version, last, sound in ((17, 16, True), (18, 17, True), (16, 16, False), (18, 18, False)):
        assert read_tree(ask, flatten(root, version=version, last=last))[0] is sound


def test_cut_and_hostile_trees(ask: Ask) -> None:
    """A tree that is cut off, or has any one word replaced, is answered without a byte read outside of it."""
    tree = chosen("arm64.pagesize=4k", linux_initrd_start=word(1), linux_initrd_end=word(2))
    for length in range(len(tree)):
        assert read_tree(ask, tree[:length]) == (False, None, 0, 0)
    for at in range(0, len(tree) - 3, 4):
        for value in (0, 1, 2, 3, 4, 9, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF, len(tree)):
            read_tree(ask, tree[:at] + word(value) + tree[at + 4 :])
    lies = tree[:4] + word(len(tree) - 1) + tree[8:]
    assert read_tree(ask, lies)[0] is False


def test_random_trees(ask: Ask) -> None:
    """Trees with several bytes at random are survived."""
    chance = random.Random(7)
    tree = chosen("arm64.pagesize=4k", linux_initrd_start=word(1), linux_initrd_end=word(2))
    for _ in range(3000):
        data = bytearray(tree)
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 2, 3, 9, 255, chance.randrange(256)))
        read_tree(ask, bytes(data))


@pytest.mark.parametrize("structure", [
    word(END_NODE), word(END), word(NOP) * 5, word(5), word(3) + word(0) * 2, word(1) + b"abcd", b"",
    word(1) + bytes(4) + word(END),
])  # fmt: skip
def test_structures_that_are_none(ask: Ask, structure: bytes) -> None:
    """A structure block that does not come out even is broken, but for one with no node at all."""
    strings_at = 56 + len(structure)
    header = struct.pack(">10I", 0xD00DFEED, strings_at, 56, strings_at, 40, 17, 16, 0, 0, len(structure))
    sound = read_tree(ask, header + bytes(16) + structure)[0]
    assert sound is (structure == word(END))


