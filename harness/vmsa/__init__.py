"""An executable specification of VMSAv8-64 and VMSAv9-128 translation, stage 1 and stage 2, and its inverse.

For any memory image: needs registers, and a function that reads physical memory.

    registers   what was read from a CPU; registers_el2, what only EL2 has
    derive      what that means for a range of addresses, in one place; sizes, what both stages derive alike
    regime      the result of it, and what it shares with stage 2: stage
    walk        one translation, explained; faults are values
    mapping     everything that a range maps
    access      who may do what
    attributes  memory types
    descriptor  what 64 or 128 bits are; address, where they keep one
    stage2      stage 2 from registers; stage2_leaf, its fields, rights and walk
    fault       kinds, levels, codes
    geometry    the formulas
    field       bit fields as data
    build       mappings to tables; encode, the bits and registers that takes

Not modelled: what both stages make of an address together, overlays of stage 2, EL3, the Secure and Realm
states. Nothing emulates 128-bit descriptors, and no kernel uses them: they are held by their formulas, by
round trips, and by layouts that others published. Written from Arm's manual and pseudocode, which it cites by
name; what emulators do differently is not its business. Of the rest of the package it imports
`harness.errors` only.
"""

from harness.vmsa.access import Access, AccessKind, Permissions, Right, permissions
from harness.vmsa.attributes import MemoryType, Shareability, memory_type, shareability
from harness.vmsa.build import BuildError, Stage2TableBuilder, TableBuilder, leaf_attributes, registers_for
from harness.vmsa.derive import derive, derive_both
from harness.vmsa.descriptor import (
    AddressFormat,
    Block,
    Block128,
    Descriptor,
    Invalid,
    Page,
    Page128,
    Reserved,
    Table,
    Table128,
    TableAttributes,
    decode,
)
from harness.vmsa.encode import leaf_attributes_128, stage2_attributes, stage2_registers_for
from harness.vmsa.fault import Denial, Fault, FaultKind, Step
from harness.vmsa.geometry import Geometry
from harness.vmsa.mapping import Anomaly, AnomalyKind, Mapping, mappings
from harness.vmsa.regime import Regime, Regimes, StageOff, TranslationRegime, VaRange
from harness.vmsa.registers import Bank, Registers
from harness.vmsa.stage import Stage
from harness.vmsa.stage2 import Stage2Regime, derive_stage2
from harness.vmsa.stage2_leaf import (
    FromStage1,
    stage2_memory,
    stage2_permissions,
    stage2_shareability,
    walk_stage2,
)
from harness.vmsa.walk import Choices, Memory, Translation, walk

__all__ = [
    "Access",
    "AccessKind",
    "AddressFormat",
    "Anomaly",
    "AnomalyKind",
    "Bank",
    "Block",
    "Block128",
    "BuildError",
    "Choices",
    "Denial",
    "Descriptor",
    "Fault",
    "FaultKind",
    "FromStage1",
    "Geometry",
    "Invalid",
    "Mapping",
    "Memory",
    "MemoryType",
    "Page",
    "Page128",
    "Permissions",
    "Regime",
    "Regimes",
    "Registers",
    "Reserved",
    "Right",
    "Shareability",
    "Stage",
    "Stage2Regime",
    "Stage2TableBuilder",
    "StageOff",
    "Step",
    "Table",
    "Table128",
    "TableAttributes",
    "TableBuilder",
    "Translation",
    "TranslationRegime",
    "VaRange",
    "decode",
    "derive",
    "derive_both",
    "derive_stage2",
    "leaf_attributes",
    "leaf_attributes_128",
    "mappings",
    "memory_type",
    "permissions",
    "registers_for",
    "shareability",
    "stage2_attributes",
    "stage2_memory",
    "stage2_permissions",
    "stage2_registers_for",
    "stage2_shareability",
    "walk",
    "walk_stage2",
]
