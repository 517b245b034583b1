"""Tests of harness.snapshot.kernel."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ChannelError, UsageError
from harness.snapshot import Snapshot, Vcpu, is_trampoline, kernel_regime, user_regime
from harness.vmsa import Regime, Registers, Translation, VaRange, derive, walk

BASE_PA = 0x4000_0000
TRAMP_VA = 0xFFFF_FFFF_FF5F_4000


class Memory:
    """The guest's memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def ranges(self) -> tuple[range, ...]:
        return (range(BASE_PA, BASE_PA + len(self.content)),)

    def read(self, pa: int, size_bytes: int) -> bytes:
        at = pa - BASE_PA
        if at < 0 or at + size_bytes > len(self.content):
            raise ChannelError("not there")
        return self.content[at : at + size_bytes]


def snapshot(guest: Any, *vcpus: dict[str, int | None], memory: bytes | None = None) -> Snapshot:
    """The guest with vCPUs whose registers differ from its own by those given; None: not known."""
    registers = [
        {name: value for name, value in {**guest.registers, **changed}.items() if value is not None}
        for changed in vcpus
    ]
    return Snapshot(
        vcpus=tuple(Vcpu(registers=one) for one in registers),
        memory=Memory(guest.memory if memory is None else memory),
        origin="a test",
    )


@pytest.fixture
def in_user(guest: Any) -> dict[str, int | None]:
    """A vCPU in EL0 under KPTI: the trampoline, with the user's ASID."""
    return {"cpsr": 0, "pc": 0x40_0000, "TTBR1_EL1": guest.tramp_pa | 0x67 << 48}


def test_a_vcpu_in_the_kernel(guest: Any) -> None:
    """Its own TTBR1 is taken, with nothing to note."""
    regime = kernel_regime(snapshot(guest, {}))
    assert regime.table_pa == guest.swapper_pa
    assert not any("trampoline" in note for note in regime.notes)


def test_another_vcpu_stands_in(guest: Any, in_user: dict[str, int | None]) -> None:
    """With one vCPU in EL0 under KPTI and one in the kernel, the second's registers are used as they are."""
    regime = kernel_regime(snapshot(guest, in_user, {"TTBR1_EL1": guest.swapper_pa | 0x50 << 48}))
    assert (regime.table_pa, regime.asid) == (guest.swapper_pa, 0x50)
    assert not any("trampoline" in note for note in regime.notes)


def test_beside_the_trampoline(guest: Any, in_user: dict[str, int | None]) -> None:
    """With every vCPU in EL0, swapper_pg_dir is two pages after the trampoline's table, which is noted."""
    without_info = guest.memory[:0x8_0000] + bytes(4096)
    regime = kernel_regime(snapshot(guest, in_user, in_user, memory=without_info))
    assert regime.table_pa == guest.swapper_pa
    assert regime.asid == 0x66
    assert any("0x2000 bytes after it" in note for note in regime.notes)


def test_a_vcpu_that_has_not_left_the_trampoline(guest: Any, in_user: dict[str, int | None]) -> None:
    """In EL1 but still on the trampoline's tables, which an exception enters with, the same holds."""
    regime = kernel_regime(snapshot(guest, {**in_user, "cpsr": 5}))
    assert regime.table_pa == guest.swapper_pa


def test_in_user_space_without_kpti(guest: Any) -> None:
    """A vCPU in EL0 whose TTBR1 is the kernel's is used as it is."""
    regime = kernel_regime(snapshot(guest, {"cpsr": 0, "TTBR1_EL1": guest.swapper_pa | 1 << 48}))
    assert (regime.table_pa, regime.asid) == (guest.swapper_pa, 1)


def moved(guest: Any, *, info: bool) -> bytes:
    """The memory with something else where swapper_pg_dir should be, the table itself a page further on."""
    memory = bytearray(guest.memory)
    at = guest.swapper_pa - BASE_PA
    memory[at + 0x1000 : at + 0x2000] = memory[at : at + 0x1000]
    memory[at : at + 0x1000] = bytes(range(256)) * 16
    if not info:
        memory[0x8_0000:] = bytes(len(memory) - 0x8_0000)
    return bytes(memory)


def test_what_is_beside_the_trampoline_is_checked(guest: Any, in_user: dict[str, int | None]) -> None:
    """Tables there that do not map the trampoline are not taken for the kernel's."""
    with pytest.raises(UsageError, match="trampoline only"):
        kernel_regime(snapshot(guest, in_user, memory=moved(guest, info=False)))


def test_a_second_trampoline_is_not_the_kernel(guest: Any, in_user: dict[str, int | None]) -> None:
    """Tables beside the trampoline that hold no more than it does are not taken for the kernel's."""
    memory = bytearray(guest.memory[:0x8_0000])
    old, new = guest.tramp_pa - BASE_PA, guest.swapper_pa - BASE_PA
    memory[new : new + 0x1000] = memory[old : old + 0x1000]
    with pytest.raises(UsageError, match="trampoline only"):
        kernel_regime(snapshot(guest, in_user, memory=bytes(memory)))


def test_a_trampoline_mapped_elsewhere(guest: Any, in_user: dict[str, int | None]) -> None:
    """Tables that have something else at the trampoline's address are not the kernel's beside it."""
    sound = snapshot(guest, {})
    found = walk(kernel_regime(sound), sound.read, TRAMP_VA)
    assert isinstance(found, Translation)
    at = found.chain[-1].pa - BASE_PA
    memory = bytearray(guest.memory[:0x8_0000] + bytes(4096))
    word = int.from_bytes(memory[at : at + 8], "little") + 0x1000
    memory[at : at + 8] = word.to_bytes(8, "little")
    with pytest.raises(UsageError, match="trampoline only"):
        kernel_regime(snapshot(guest, in_user, memory=bytes(memory)))


def test_a_vcpu_in_the_kernel_is_preferred(guest: Any) -> None:
    """Of a vCPU in EL0 and one in the kernel the second's registers count, whatever the order."""
    user = {"cpsr": 0, "TTBR1_EL1": guest.swapper_pa | 3 << 48}
    kernel = {"cpsr": 5, "TTBR1_EL1": guest.swapper_pa | 4 << 48}
    for order in ((user, kernel), (kernel, user)):
        assert kernel_regime(snapshot(guest, *order)).asid == 4


def test_vmcoreinfo_comes_last(guest: Any, in_user: dict[str, int | None]) -> None:
    """Where the trampoline's table is elsewhere, VMCOREINFO leads to the kernel's."""
    memory = bytearray(guest.memory)
    old, new = guest.tramp_pa - BASE_PA, 0x7_8000
    memory[new : new + 0x1000] = memory[old : old + 0x1000]
    regime = kernel_regime(snapshot(guest, {**in_user, "TTBR1_EL1": BASE_PA + new}, memory=bytes(memory)))
    assert regime.table_pa == guest.swapper_pa
    assert any("VMCOREINFO" in note for note in regime.notes)


def test_a_vcpu_that_is_off_is_passed_over(guest: Any) -> None:
    """A vCPU whose MMU is off, or whose registers are not known, leaves the choice to the others."""
    regime = kernel_regime(snapshot(guest, {"SCTLR_EL1": 0}, {"TCR_EL1": None}, {}))
    assert regime.table_pa == guest.swapper_pa


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"SCTLR_EL1": 0}, "vCPU 0: its MMU is off"),
        ({"TTBR1_EL1": None}, "vCPU 0: TTBR1_EL1 is not known"),
        ({"TTBR1_EL1": 0x4007_9000}, "leads to an empty table"),
        ({"TTBR1_EL1": 0x9000_0000}, "leads to 0x90000000, and the table is not in memory"),
        ({"TCR_EL1": 0}, "vCPU 0: "),
        ({"ID_AA64MMFR0_EL1": 0xF}, "PARange"),
    ],
)
def test_why_there_are_no_tables(guest: Any, changed: dict[str, int | None], why: str) -> None:
    """Where nothing leads to the kernel's tables the error says what each vCPU had."""
    with pytest.raises(UsageError, match=rf"a test: .*{why}"):
        kernel_regime(snapshot(guest, changed))


def test_tables_made_to_waste_time(guest: Any) -> None:
    """Of many tables that lead to nothing only a few are looked through."""
    table, count = 1 << 12, 4096
    words = [BASE_PA + (1 + index) * table | 3 for index in range(512)]
    second = [BASE_PA + (513 + index) * table | 3 for index in range(count)]
    content = b"".join(word.to_bytes(8, "little") for word in [*words, *second]).ljust(
        table * (600 + count), b"\0"
    )
    asked: list[int] = []

    class Counting(Memory):
        def read(self, pa: int, size_bytes: int) -> bytes:
            asked.append(pa)
            return super().read(pa, size_bytes)

    vcpu = Vcpu(registers={**guest.registers, "TTBR1_EL1": BASE_PA})
    regime = kernel_regime(Snapshot(vcpus=(vcpu,), memory=Counting(content), origin="a test"))
    assert regime.table_pa == BASE_PA
    assert len(asked) < 300


def test_no_vcpu_at_all(guest: Any) -> None:
    """A snapshot without vCPUs is an error that says so."""
    with pytest.raises(UsageError, match="no vCPU"):
        kernel_regime(snapshot(guest))


def test_a_host_kernel(guest: Any) -> None:
    """With VHE (HCR_EL2.E2H and TGE) EL2's registers are live, and EL1's, stale, are not looked at."""
    el2 = {name.replace("EL1", "EL2"): guest.registers[name] for name in ("TCR_EL1", "MAIR_EL1", "SCTLR_EL1")}
    vcpu = {"cpsr": 9, **el2, "TTBR0_EL2": 0, "TTBR1_EL2": guest.swapper_pa, "HCR_EL2": 1 << 34 | 1 << 27}
    regime = kernel_regime(snapshot(guest, {**vcpu, "TTBR1_EL1": 0x4007_9000}))
    assert regime.table_pa == guest.swapper_pa


def test_what_a_trampoline_is(guest: Any) -> None:
    """A few leaves are a trampoline; a kernel's many, none, and damaged tables are not."""

    def judged(table_pa: int) -> bool:
        registers = Registers.from_names({**guest.registers, "TTBR1_EL1": table_pa})
        regime = derive(registers, VaRange.UPPER)
        assert isinstance(regime, Regime)
        return is_trampoline(regime, snapshot(guest, {}))

    assert judged(guest.tramp_pa)
    assert not judged(guest.swapper_pa)
    assert not judged(0x4007_9000)
    assert not judged(0x9000_0000)


def test_a_process(guest: Any) -> None:
    """A vCPU's lower half is by its own TTBR0; what is not there is an error of use."""
    two = snapshot(guest, {}, {"TTBR0_EL1": 0x4007_8000 | 7 << 48}, {"TTBR0_EL1": None})
    regime = user_regime(two, 1)
    assert (regime.table_pa, regime.va_range) == (0x4007_8000, VaRange.LOWER)
    with pytest.raises(UsageError, match="none of number 3"):
        user_regime(two, 3)
    with pytest.raises(UsageError, match="none of number -1"):
        user_regime(two, -1)
    with pytest.raises(UsageError, match="TTBR0_EL1 is not known"):
        user_regime(two, 2)
