"""An executable specification of VMSAv8-64 stage 1 translation, and its inverse.

For any memory image: needs registers, and a function that reads physical memory.

    registers   what was read from a CPU
    derive      what that means for a range of addresses, in one place
    regime      the result of it
    walk        one translation, explained; faults are values
    mapping     everything that a range maps
    access      who may do what
    attributes  memory types
    descriptor  what 64 bits are
    fault       kinds, levels, codes
    geometry    the formulas
    field       bit fields as data
    build       mappings to tables

Not modelled yet: 128-bit descriptors (FEAT_D128), stage 2, regimes with one range, the Secure and Realm
states. Written from Arm's manual and pseudocode, which it cites by name; what emulators do differently is
not its business. Of the rest of the package it imports `harness.errors` only.
"""

from harness.vmsa.access import Access, AccessKind, Permissions, Right, permissions
from harness.vmsa.attributes import MemoryType, Shareability, memory_type, shareability
from harness.vmsa.build import BuildError, TableBuilder, leaf_attributes, registers_for
from harness.vmsa.derive import derive, derive_both
from harness.vmsa.descriptor import (
    AddressFormat,
    Block,
    Descriptor,
    Invalid,
    Page,
    Reserved,
    Table,
    TableAttributes,
    decode,
)
from harness.vmsa.fault import Denial, Fault, FaultKind, Step
from harness.vmsa.geometry import Geometry
from harness.vmsa.mapping import Anomaly, AnomalyKind, Mapping, mappings
from harness.vmsa.regime import Regime, Regimes, StageOff, TranslationRegime, VaRange
from harness.vmsa.registers import Bank, Registers
from harness.vmsa.walk import Choices, Memory, Translation, walk

__all__ = [
    "Access",
    "AccessKind",
    "AddressFormat",
    "Anomaly",
    "AnomalyKind",
    "Bank",
    "Block",
    "BuildError",
    "Choices",
    "Denial",
    "Descriptor",
    "Fault",
    "FaultKind",
    "Geometry",
    "Invalid",
    "Mapping",
    "Memory",
    "MemoryType",
    "Page",
    "Permissions",
    "Regime",
    "Regimes",
    "Registers",
    "Reserved",
    "Right",
    "Shareability",
    "StageOff",
    "Step",
    "Table",
    "TableAttributes",
    "TableBuilder",
    "Translation",
    "TranslationRegime",
    "VaRange",
    "decode",
    "derive",
    "derive_both",
    "leaf_attributes",
    "mappings",
    "memory_type",
    "permissions",
    "registers_for",
    "shareability",
    "walk",
]
