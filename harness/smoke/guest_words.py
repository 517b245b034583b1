"""What a guest says of its kernel's page tables, in files that root can read."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.check.half import GuestView, KernelHalf
from harness.linux.iomem import parse_iomem
from harness.linux.ptdump import Dump, parse_ptdump
from harness.linux.vmallocinfo import VmallocArea, parse_vmallocinfo
from harness.linux.vmcoreinfo import VmcoreInfo
from harness.smoke.subject import Subject
from harness.vmsa import Memory, Translation, walk
from harness.vmsa.walk import read

__all__ = ["GuestWords", "guest_view", "kfence_pool", "read_words", "reread"]

KEEP_BYTES = 32 << 20
NOTE_LIMIT_BYTES = 1 << 17
NOTE_NAME = b"VMCOREINFO\0"
PTDUMP = "/sys/kernel/debug/kernel_page_tables"
VMALLOCINFO = "/proc/vmallocinfo"
NOTE = "/sys/kernel/vmcoreinfo"
INTERVAL = "/sys/module/kfence/parameters/sample_interval"
ONCE = ("/proc/iomem", "/proc/cmdline", "/proc/sys/kernel/osrelease", NOTE, INTERVAL)
TWICE = (VMALLOCINFO, PTDUMP)
ALWAYS = ("/proc/iomem", "/proc/cmdline", "/proc/sys/kernel/osrelease", VMALLOCINFO)
SHOWN_CHARS = 60
# With kptr_restrict at 0 the addresses in /proc/vmallocinfo are hashed even for root (vsnprintf's %pK).
RESTRICT = "/proc/sys/kernel/kptr_restrict"
# One process for all files: each costs an emulated guest tens of milliseconds.
READ = f"read k < {RESTRICT}; echo 1 > {RESTRICT}; tail -v -n +1 {{}} 2>/dev/null; echo $k > {RESTRICT}"
_HEAD = re.compile(r"^==> (/\S+) <==\n", re.MULTILINE)
KFENCE_DEFAULT_OBJECTS = 255  # lib/Kconfig.kfence, KFENCE_NUM_OBJECTS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWords:
    """Files of a guest by path, those that it has; and where KFENCE keeps the address of its pool."""

    files: Mapping[str, str]
    kfence_va: int | None = None
    kfence_objects: int = KFENCE_DEFAULT_OBJECTS

    def note_of(self, memory: Memory) -> bytes | None:
        """The text of VMCOREINFO in the guest's memory, or None where it is not said, or not there."""
        match = re.fullmatch(r"0x([0-9a-f]{1,16}) ([0-9a-f]{1,8})\s*", self.files.get(NOTE, ""))
        if match is None or int(match[2], 16) > NOTE_LIMIT_BYTES:
            return None
        data = read(memory, int(match[1], 16), int(match[2], 16))
        if data is None or len(data) < 24 or data[12:23] != NOTE_NAME:
            return None
        _, text_bytes, _ = struct.unpack("<III", data[:12])
        return data[24 : 24 + text_bytes]


def read_words(subject: Subject) -> GuestWords:
    """Read everything, once."""
    words = GuestWords(files=_read(subject, (*ONCE, *TWICE)))
    if not _may_have_kfence_pool(subject, words):
        return words
    done = subject.sh("grep -m1 ' __kfence_pool$' /proc/kallsyms")
    match = re.match(r"(ffff[0-9a-f]{12}) ", done.text)
    objects = subject.option("KFENCE_NUM_OBJECTS") or ""
    return replace(
        words,
        kfence_va=int(match[1], 16) if match else None,
        kfence_objects=int(objects) if objects.isdecimal() else KFENCE_DEFAULT_OBJECTS,
    )


def _may_have_kfence_pool(subject: Subject, words: GuestWords) -> bool:
    """False where KFENCE was never on: /proc/kallsyms, which would tell, costs an emulated guest seconds."""
    if subject.config is not None and subject.option("KFENCE") != "y":
        return False
    asked = re.findall(r"kfence\.sample_interval=(\S+)", words.files.get("/proc/cmdline", ""))
    intervals = [
        *asked,
        subject.option("KFENCE_SAMPLE_INTERVAL") or "",
        words.files.get(INTERVAL, "0").strip(),
    ]
    return any(one != "0" for one in intervals)


def reread(subject: Subject, before: GuestWords) -> GuestWords:
    """Read once more what may change."""
    kept = {path: text for path, text in before.files.items() if path in ONCE}
    return replace(before, files={**kept, **_read(subject, TWICE)})


def guest_view(subject: Subject, before: GuestWords, after: GuestWords, note: bytes | None) -> GuestView:
    """The guest's words parsed, why some are absent, and which of those should not be."""
    absent: dict[str, str] = {}
    broken = _missing(before, after)
    dumps = _dumps(subject, before, after, absent, broken)
    iomem = parse_iomem(before.files.get("/proc/iomem", ""))
    if iomem is None:
        broken["iomem"] = "/proc/iomem holds no address"
    info = None
    if NOTE not in before.files:
        absent["vmcoreinfo"] = f"there is no {NOTE}: CONFIG_VMCORE_INFO, or CRASH_CORE before Linux 6.9"
    elif note is None:
        said = before.files[NOTE].strip()[:SHOWN_CHARS]
        broken["vmcoreinfo"] = f"{NOTE} says {said!r}, and no note is there"
    else:
        try:
            info = VmcoreInfo.parse(note)
        except ValueError as error:
            broken["vmcoreinfo"] = str(error)
    areas = _areas(before, after, absent)
    return GuestView(
        release=before.files.get("/proc/sys/kernel/osrelease", "").strip(),
        cmdline=before.files.get("/proc/cmdline", ""),
        config=subject.config,
        iomem=iomem,
        note=_lines(note or b""),
        vmcoreinfo=info,
        dumps=dumps,
        areas=areas,
        absent=absent,
        broken=broken,
    )


def _missing(before: GuestWords, after: GuestWords) -> dict[str, str]:
    """Files that every kernel has, and those that were there once and not again."""
    missing = [f"no {path}" for path in ALWAYS if path not in before.files]
    missing += [f"{path} once only" for path in TWICE if path in before.files and path not in after.files]
    return {"files": ", ".join(missing)} if missing else {}


def kfence_pool(half: KernelHalf, memory: Memory, words: GuestWords) -> range | None:
    """KFENCE's pool, by its pointer in the guest's memory; empty where there is none, None if unknown."""
    if words.kfence_va is None:
        return range(0)
    found = walk(half.regime, half.memory, words.kfence_va)
    pointer = read(memory, found.pa, 8) if isinstance(found, Translation) else None
    if pointer is None:
        return None
    start = int.from_bytes(pointer, "little")
    # (objects + 1) * 2 pages (include/linux/kfence.h, KFENCE_POOL_SIZE).
    size = (words.kfence_objects + 1) * 2 << half.regime.geometry.granule_log2
    return range(start, start + size) if start >> 55 == 0x1FF else range(0)


def _read(subject: Subject, paths: tuple[str, ...]) -> dict[str, str]:
    """Files by path in one command; those that are not there, or did not come whole, are left out."""
    script = READ.format(" ".join(paths))
    deadline = subject.deadline.sooner(subject.command_s)
    done = subject.machine.shell.run(script, deadline, keep_bytes=KEEP_BYTES)
    if done.truncated:
        return {}
    _, *parts = _HEAD.split(done.text)
    # tail(1) parts the files with an empty line.
    found = dict(zip(parts[::2], (text.removesuffix("\n") for text in parts[1::2]), strict=True))
    return {path: text for path, text in found.items() if path in paths}


def _dumps(
    subject: Subject, before: GuestWords, after: GuestWords, absent: dict[str, str], broken: dict[str, str]
) -> tuple[Dump, Dump] | None:
    if PTDUMP in before.files and PTDUMP in after.files:
        return parse_ptdump(before.files[PTDUMP]), parse_ptdump(after.files[PTDUMP])
    if subject.option("PTDUMP_DEBUGFS") != "y":
        absent["ptdump"] = "the kernel has no PTDUMP_DEBUGFS"
    elif _may_close_debugfs(subject, before.files.get("/proc/cmdline", "")):
        absent["ptdump"] = f"{PTDUMP} cannot be read"
    else:
        broken["ptdump"] = f"{PTDUMP} cannot be read, and the kernel has PTDUMP_DEBUGFS"
    return None


def _may_close_debugfs(subject: Subject, cmdline: str) -> bool:
    """True where the kernel may keep debugfs from root: by its build, `debugfs=` or lockdown."""
    asked = any(word.startswith(("debugfs=", "lockdown=")) for word in cmdline.split())
    return asked or subject.option("DEBUG_FS_ALLOW_ALL") != "y"


def _areas(
    before: GuestWords, after: GuestWords, absent: dict[str, str]
) -> tuple[tuple[VmallocArea, ...], tuple[VmallocArea, ...]] | None:
    first, second = (parse_vmallocinfo(words.files.get(VMALLOCINFO, "")) for words in (before, after))
    if first is None or second is None:
        absent["vmallocinfo"] = "/proc/vmallocinfo holds no address"
        return None
    return first, second


def _lines(note: bytes) -> dict[str, str]:
    text = note.decode("ascii", "replace").strip("\0")
    return dict(line.split("=", 1) for line in text.splitlines()[:1000] if "=" in line)
