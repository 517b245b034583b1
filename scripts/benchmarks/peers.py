"""The same tables and addresses, translated by others: drgn (pip) and libaddrxlat (libkdumpfile-dev).

Each where it is installed. A peer whose answers are not ours ends the program: a figure of a wrong answer is
none.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.vmsa import Regime

__all__ = ["Sample", "addrxlat_per_s", "drgn_per_s"]

HERE = Path(__file__).parent
ROUNDS = 5
NOTHING = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Tables of a 4K granule with 48-bit addresses, addresses in them, and where those lead by our model."""

    regime: Regime
    memory: bytes
    base_pa: int
    vas: NDArray[np.uint64]
    pas: NDArray[np.uint64]


def drgn_per_s(sample: Sample) -> float | None:
    """drgn's translations per second from Python, or None where it is not installed.

    drgn has no call that only translates: it reads eight bytes at each address, of a core file made of the
    tables. Only addresses that lead into that file can be read, and the bytes are compared with ours.
    """
    if importlib.util.find_spec("drgn") is None:
        return None
    drgn = importlib.import_module("drgn")
    inside = (sample.pas >= sample.base_pa) & (sample.pas < sample.base_pa + len(sample.memory) - 8)
    vas, pas = sample.vas[inside].tolist(), sample.pas[inside].tolist()
    if not vas:
        raise SystemExit("scripts/bench tables: no address of the sample leads into the tables' own memory")
    with tempfile.NamedTemporaryFile(prefix="granule-core-") as core:
        core.write(_core(sample))
        core.flush()
        program = drgn.Program()
        program.set_core_dump(core.name)
        read = program.read
        for va, pa in zip(vas, pas, strict=True):
            at = pa - sample.base_pa
            if read(va, 8) != sample.memory[at : at + 8]:
                raise SystemExit(f"scripts/bench tables: drgn does not read at {va:#x} what is at {pa:#x}")
        times = []
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            for va in vas:
                read(va, 8)
            times.append(time.perf_counter() - start_s)
    return len(vas) / statistics.median(times)


def addrxlat_per_s(sample: Sample) -> float | None:
    """libaddrxlat's translations per second from C, or None where it or a compiler is not installed."""
    if shutil.which("gcc") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="granule-addrxlat-") as name:
        work = Path(name)
        program = work / "bench"
        built = subprocess.run(
            ["gcc", "-O2", str(HERE / "addrxlat.c"), "-laddrxlat", "-o", str(program)],
            capture_output=True,
            check=False,
        )
        if built.returncode:
            return None
        (work / "memory").write_bytes(sample.memory)
        sample.vas.tofile(work / "vas")
        memory_at = (work / "memory", hex(sample.base_pa), hex(sample.regime.table_pa))
        done = subprocess.run(
            [program, *memory_at, work / "vas", str(ROUNDS)], capture_output=True, check=True
        )
    theirs = np.frombuffer(done.stdout, np.uint64)
    if not np.array_equal(theirs, sample.pas):
        raise SystemExit("scripts/bench tables: libaddrxlat's answers are not ours")
    return len(sample.vas) / statistics.median(int(line) for line in done.stderr.split()) * 1e9


def _core(sample: Sample) -> bytes:
    """An ELF core of the physical memory, with the VMCOREINFO that drgn finds the tables by.

    drgn takes the tables' address from swapper_pg_dir less kimage_voffset (libdrgn/arch_aarch64.c).
    """
    voffset = (sample.regime.lowest_va - sample.base_pa) % (1 << 64)
    about = {
        "OSRELEASE": "6.12.0",
        "PAGESIZE": "4096",
        "SYMBOL(swapper_pg_dir)": f"{(sample.regime.table_pa + voffset) % (1 << 64):x}",
        "KERNELOFFSET": "0",
        "NUMBER(VA_BITS)": str(sample.regime.iasize_bits),
        "NUMBER(TCR_EL1_T1SZ)": hex(64 - sample.regime.iasize_bits),
        "NUMBER(kimage_voffset)": hex(voffset),
        "NUMBER(PHYS_OFFSET)": hex(sample.base_pa),
    }
    text = "".join(f"{key}={value}\n" for key, value in about.items()).encode()
    name = b"VMCOREINFO\0\0"
    note = struct.pack("<III", 11, len(text), 0) + name + text + bytes(-len(text) % 4)
    headers_bytes = 64 + 2 * 56
    data_at = -(-(headers_bytes + len(note)) // 4096) * 4096
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    # ELF-64 Object File Format, figures 2 and 6: ET_CORE for EM_AARCH64; a PT_NOTE and a PT_LOAD.
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 4, 183, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    size = len(sample.memory)
    header += struct.pack("<IIQQQQQQ", 4, 0, headers_bytes, 0, 0, len(note), len(note), 0)
    header += struct.pack("<IIQQQQQQ", 1, 0, data_at, 0, sample.base_pa, size, size, 0)
    return (header + note).ljust(data_at, b"\0") + sample.memory
