"""A machine that runs the payload, and what is asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from harness.check.disagreement import Answer, Mapped, Unmapped
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineExceeded
from harness.memory.ram import WritableMemory
from harness.qemu.frozen import Frozen
from harness.qemu.machine import Machine
from harness.qemu.probe import Qemu
from harness.rig.home import home_tables
from harness.rig.job import Job
from harness.rig.layout import (
    COMMAND_PA,
    DATA_BYTES,
    DATA_PA,
    DONE_PA,
    JOBS_LEFT_PA,
    JOBS_PA,
    MEMORY_MIB,
    RAM_END_PA,
    RECORD_BYTES,
    SVC_BYTES,
    SVC_PA,
    mailbox_head,
)
from harness.rig.query import answer_of
from harness.snapshot import REGISTERS
from harness.spec import MachineSpec
from harness.vmsa import Registers

__all__ = ["BATCH_LIMIT", "Rig", "rig_spec"]

POLL_S: Final = 0.005
LAST_WORDS_S: Final = 10.0
BATCH_LIMIT: Final = 48
"""Jobs at a time."""
_RECORDS_PA: Final = JOBS_PA + 0x1_0000
"""Queries, each job's followed by its results."""
_SVC: Final = bytes.fromhex("010000d4")  # `svc #0`, Arm ARM C6.2 "SVC"


def rig_spec(payload: Path, *, cpu: str) -> MachineSpec:
    """The machine of a rig: one vCPU, no devices of use. `payload` stands in for an initrd, too."""
    return MachineSpec(kernel=payload, initrd=payload, cmdline="", cpu=cpu, vcpus=1, memory_mib=MEMORY_MIB)


@dataclass(frozen=True, slots=True)
class _Placed:
    job: Job
    queries_pa: int
    results_pa: int


class Rig:
    """A machine that translates addresses under registers and tables of ours; a context manager.

    Its vCPU is stopped whenever no job runs. Raises as `Machine` does.
    """

    def __init__(self, payload: Path, qemu: Qemu, *, cpu: str, deadline: Deadline) -> None:
        self._deadline = deadline
        self._command = 0
        self._cleanup = contextlib.ExitStack()
        self._stopped = contextlib.ExitStack()
        try:
            self._machine = self._cleanup.enter_context(Machine(rig_spec(payload, cpu=cpu), qemu))
            self._frozen = self._stopped.enter_context(self._machine.frozen())
            for pa, data in home_tables():
                self._frozen.memory.write(pa, data)
            self._frozen.memory.write(SVC_PA, _SVC * (SVC_BYTES // len(_SVC)))
            found = self._frozen.gdb.registers(self._frozen.vcpus[0], REGISTERS, deadline)
            self.id_registers = _id_registers(found)
            """What the CPU says of itself; its banks are empty."""
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the machine."""
        with self._cleanup:
            self._stopped.close()

    def run(self, jobs: Sequence[Job], deadline: Deadline | None = None) -> tuple[tuple[Answer, ...], ...]:
        """The MMU's answers to every query of every job; the last job's regime is left in force.

        The deadline is the rig's, if no other is given. Raises DeadlineExceeded, with the pc and the
        exception, when the payload does not come to an end; QemuDied, with QEMU's last words; ValueError for
        jobs that do not fit; ChannelError for results that make no sense.
        """
        placed = _place(jobs)
        self._write(self._frozen.memory, placed)
        self._stopped.close()
        self._frozen = self._await(len(jobs), deadline or self._deadline)
        return tuple(_answers(self._frozen.memory, one) for one in placed)

    def _write(self, memory: WritableMemory, placed: Sequence[_Placed]) -> None:
        records = bytearray()
        for one in placed:
            memory.write(one.job.arena_pa, one.job.arena)
            memory.write(one.queries_pa, one.job.packed_queries())
            memory.write(one.results_pa, bytes(RECORD_BYTES * len(one.job.queries)))
            records += one.job.record(one.queries_pa, one.results_pa).pack()
        memory.write(JOBS_PA, bytes(records))
        memory.write(*mailbox_head(len(placed)))
        self._command = (self._command + 1) % 256
        memory.write(COMMAND_PA, bytes([self._command]))

    def _await(self, job_count: int, deadline: Deadline) -> Frozen:
        """The machine, stopped again once its jobs are done."""

        def is_done() -> bool:
            with self._machine.frozen() as frozen:
                return frozen.memory.read(DONE_PA, 1)[0] == self._command

        try:
            deadline.wait_until(is_done, "the rig's payload", poll_s=POLL_S)
            return self._stopped.enter_context(self._machine.frozen())
        except DeadlineExceeded as error:
            with self._machine.frozen() as frozen:
                raise DeadlineExceeded(f"{error}; {_where(frozen, job_count)}") from error
        except ChannelError:
            # The monitor breaks a moment before its QEMU, whose last words say more, has ended.
            with contextlib.suppress(DeadlineExceeded):
                self._machine.process.wait(Deadline.after(LAST_WORDS_S))
            self._machine.raise_if_gone()
            raise

    def debug_walk(self, job: Job) -> tuple[Answer, ...]:
        """Run a job, and have QEMU's debugger walk its tables too: one answer for each of its addresses.

        The addresses are those of the queries, in order, each once; the vCPU is at EL1, PSTATE.PAN clear.
        """
        self.run([job])
        walked = self._frozen.debug_walk(tuple(dict.fromkeys(query.va for query in job.queries)))
        return tuple(Unmapped() if pa is None else Mapped(pa=pa) for pa in walked)


def _place(jobs: Sequence[Job]) -> tuple[_Placed, ...]:
    if not 0 < len(jobs) <= BATCH_LIMIT:
        raise ValueError(f"the rig takes 1 to {BATCH_LIMIT} jobs at a time, not {len(jobs)}")
    placed = []
    pa = _RECORDS_PA
    for job in jobs:
        size_bytes = RECORD_BYTES * len(job.queries)
        placed.append(_Placed(job, pa, pa + size_bytes))
        pa += 2 * size_bytes
        if job.arena_pa + len(job.arena) > RAM_END_PA:
            raise ValueError(f"the tables of {job} do not fit into memory")
    if pa > DATA_PA + DATA_BYTES:
        raise ValueError("the jobs have more queries than there is memory for")
    return tuple(placed)


def _answers(memory: WritableMemory, placed: _Placed) -> tuple[Answer, ...]:
    job = placed.job
    words = job.unpacked_results(memory.read(placed.results_pa, RECORD_BYTES * len(job.queries)))
    try:
        return tuple(
            answer_of(query.operation, *pair) for query, pair in zip(job.queries, words, strict=True)
        )
    except ValueError as error:
        raise ChannelError(f"{job}: {error}") from error


def _where(frozen: Frozen, job_count: int) -> str:
    """Where a payload is stuck, and the last exception, in words."""
    names = ("pc", "ESR_EL1", "FAR_EL1", "ELR_EL1")
    values = frozen.gdb.registers(frozen.vcpus[0], names, Deadline.after(10))
    left = int.from_bytes(frozen.memory.read(JOBS_LEFT_PA, 8), "little")
    shown = ", ".join(f"{name} {value:#x}" for name, value in values.items())
    return f"it is at job {job_count - left + 1} of {job_count}: {shown}"


def _id_registers(found: dict[str, int]) -> Registers:
    return Registers.from_names({name: value for name, value in found.items() if name.startswith("ID_")})
