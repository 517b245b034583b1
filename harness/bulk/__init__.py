"""Whole translation tables at once, in NumPy, equal to `harness.vmsa` on every leaf.

For tables of a hundred thousand leaves, where a walk per address takes seconds.

    memory       where tables are read from: a buffer, or any reader of physical memory
    leaves       every leaf of a range as columns, and what was odd as columns
    walk         tables to leaves, level by level
    translate    addresses to physical addresses
    permissions  who may do what, leaf by leaf
    runs         mappings coalesced under an attribute mask
    diff         what differs between two tables

What leaves mean is the specification's to say: rights are looked up from its answers, single leaves are
handed back as its values, and the tests hold every column to it. Faults, and why an address has none, are not
here: ask `harness.vmsa.walk`. Of the rest of the package it imports `harness.vmsa` only.
"""

from harness.bulk.diff import ChangeKind, Changes, diff
from harness.bulk.leaves import Anomalies, Leaves
from harness.bulk.memory import Ram, Reads, TableSource
from harness.bulk.permissions import Rights, permissions
from harness.bulk.runs import HW, PTDUMP, Runs, runs
from harness.bulk.translate import Segments, segments, translate
from harness.bulk.walk import walk_all

__all__ = [
    "HW",
    "PTDUMP",
    "Anomalies",
    "ChangeKind",
    "Changes",
    "Leaves",
    "Ram",
    "Reads",
    "Rights",
    "Runs",
    "Segments",
    "TableSource",
    "diff",
    "permissions",
    "runs",
    "segments",
    "translate",
    "walk_all",
]
