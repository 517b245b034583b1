"""Every fault status code, as the manual's table of ESR_EL1 lists them."""

from __future__ import annotations

import pytest

from harness.vmsa import Fault, FaultKind

CODES = {
    FaultKind.ADDRESS_SIZE: {-2: 0x2C, -1: 0x29, 0: 0x00, 1: 0x01, 2: 0x02, 3: 0x03},
    FaultKind.TRANSLATION: {-2: 0x2A, -1: 0x2B, 0: 0x04, 1: 0x05, 2: 0x06, 3: 0x07},
    FaultKind.ACCESS_FLAG: {0: 0x08, 1: 0x09, 2: 0x0A, 3: 0x0B},
    FaultKind.PERMISSION: {0: 0x0C, 1: 0x0D, 2: 0x0E, 3: 0x0F},
    FaultKind.EXTERNAL_ON_WALK: {-2: 0x12, -1: 0x13, 0: 0x14, 1: 0x15, 2: 0x16, 3: 0x17},
    FaultKind.ALIGNMENT: dict.fromkeys(range(-2, 4), 0x21),
}


@pytest.mark.parametrize("kind", FaultKind)
def test_fault_status_codes(kind: FaultKind) -> None:
    """A kind and level have the manual's code; PAR_EL1 carries it next to F."""
    for level in range(-3, 5):
        fault = Fault(kind=kind, level=level, reason="")
        code = CODES[kind].get(level)
        if code is None and kind is not FaultKind.ALIGNMENT:
            with pytest.raises(ValueError, match="no code"):
                _ = fault.fsc
        elif code is not None:
            assert fault.fsc == code
            assert fault.par_el1 & 0x7F == code << 1 | 1


def test_codes_are_distinct() -> None:
    """No two faults share a code, alignment apart, which has no level."""
    codes = [code for kind, levels in CODES.items() if kind is not FaultKind.ALIGNMENT for code in levels]
    kinds = [(kind, level) for kind, levels in CODES.items() for level in levels]
    assert len(codes) == len(kinds) - 6
    values = [kind.code(level) for kind, level in kinds if kind is not FaultKind.ALIGNMENT]
    assert len(set(values)) == len(values)


def test_sentence_says_it_all() -> None:
    """A fault explains itself: address, kind, level, code, reason."""
    fault = Fault(kind=FaultKind.TRANSLATION, level=2, va=0xFFFF_8000_0000_1000, reason="it is invalid")
    assert fault.sentence == (
        "0xffff800000001000: translation fault, level 2 (stage 1, FSC 0x06): it is invalid"
    )
