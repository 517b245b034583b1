"""Where a guest hangs: every vCPU's pc, by name, and what that place means."""

from __future__ import annotations

from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import ChannelError, UsageError
from harness.kernels.kernel import Kernel
from harness.linux.klog import harmless
from harness.linux.symbols import Symboliser
from harness.memory.ram import RAM_BASE_PA
from harness.qemu.machine import Machine

__all__ = ["Diagnosis", "diagnose", "kaslr_from_vbar", "symbols_of"]

MONITOR_S = 10.0
CONSOLE_LINES = 5

# arch/arm64/kernel/head.S, `__no_granule_support`: entered when ID_AA64MMFR0_EL1 lacks the kernel's granule
# or the CPU cannot do its VA size; it waits for ever, before any console exists.
NO_GRANULE = "__no_granule_support"

# QEMU hw/arm/boot.c, load_aarch64_image(): the Image's text_offset, moved up by 2 MiB where it would
# collide with the boot stub at the start of RAM.
IMAGE_LOAD_PA = RAM_BASE_PA + (2 << 20)

# arch/arm64/include/asm/boot.h, MIN_KIMG_ALIGN: KASLR moves the kernel by multiples of 64 KiB and more.
KASLR_STEP = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found of a guest that does not answer."""

    lines: tuple[str, ...]
    """A line per vCPU, then what they mean, then the console's last words."""
    no_granule: str
    """Where a vCPU spins because the CPU lacks the kernel's page size; empty when none does."""


def symbols_of(kernel: Kernel) -> Symboliser | None:
    """Symbols of the vmlinux if there is one, else of the Image's own kallsyms; None when it has none."""
    try:
        found = Symboliser.of_vmlinux(kernel.vmlinux) if kernel.vmlinux else Symboliser.of_image(kernel.image)
    except UsageError:
        return None
    return found.loaded_at(IMAGE_LOAD_PA)


def kaslr_from_vbar(symbols: Symboliser, vbar: int) -> int | None:
    """How far KASLR moved the kernel, in bytes, from a vCPU's VBAR_EL1; None when that does not tell.

    Outside of EL0 VBAR_EL1 holds the address of `vectors` (arch/arm64/kernel/head.S, __primary_switched).
    """
    vectors = symbols.table.address_of("vectors")
    if vectors is None or not vbar >> 48 or (vbar - vectors) % KASLR_STEP:
        return None
    return vbar - vectors


def diagnose(machine: Machine, symbols: Symboliser | None) -> Diagnosis:
    """Stop the vCPUs, read where each one is, and let them go on."""
    lines: list[str] = []
    no_granule = ""
    try:
        with machine.frozen() as frozen:
            deadline = Deadline.after(MONITOR_S)
            for number, vcpu in enumerate(frozen.vcpus):
                registers = frozen.gdb.registers(vcpu, ("pc", "SCTLR_EL1", "VBAR_EL1"), deadline)
                line = f"vCPU {number}: {_place(registers, symbols)}"
                lines.append(line)
                no_granule = no_granule or (line if NO_GRANULE in line else "")
    except ChannelError as error:
        lines.append(f"the vCPUs could not be read: {error}")
    if no_granule:
        lines.append(
            "the kernel spins before its console exists: this CPU lacks its page size or its VA size"
        )
    lines.append(f"the console has been silent for {machine.console.silent_s():.1f} s")
    last = harmless(machine.transcript.tail(2000)).splitlines()[-CONSOLE_LINES:]
    lines += [f"console: {line.strip()}" for line in last if line.strip()]
    return Diagnosis(lines=tuple(lines), no_granule=no_granule)


def _place(registers: dict[str, int], symbols: Symboliser | None) -> str:
    pc = registers.get("pc", 0)
    # SCTLR_EL1.M, bit 0: stage 1 translation is on (Arm ARM D24.2).
    mmu_off = "SCTLR_EL1" in registers and not registers["SCTLR_EL1"] & 1
    if mmu_off and pc < IMAGE_LOAD_PA:
        return f"pc {pc:#x}, MMU off: not started, or still in the boot stub"
    if symbols is not None:
        offset = kaslr_from_vbar(symbols, registers.get("VBAR_EL1", 0))
        name = (symbols.at_offset(offset) if offset else symbols).describe(pc)
    else:
        name = "no symbols"
    return f"pc {pc:#x} = {name}{', MMU off' if mmu_off else ''}"
