"""Disk, network, modules and CPUs: the parts of a kernel that a page size reaches through drivers."""

from __future__ import annotations

import re

from harness.build.disks import PATTERN_SHA256, block_sizes_for, check_ext4
from harness.channel.command import Completed
from harness.linux.release import at_least
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Presence, Subject

__all__ = ["block", "copy_pattern", "cpu_list", "hotplug", "last_words", "modules", "network"]

# One that fits a page and a frame, one that fills a frame, one that needs several of either.
PING_BYTES = (56, 1400, 9000)
PINGS = 3
TCP_BYTES = 1 << 20
# On Hyper-V there are two cards, and either may have come first.
VIRTIO_CARD = (
    "for d in /sys/class/net/*; do "
    '[ "$(basename "$(readlink -f "$d/device/driver")")" = virtio_net ] && card=$(basename "$d"); done'
)
# Linux 6.19 lets ext4 have blocks larger than a page ("ext4: enable block size larger than page size").
LARGE_BLOCKS_SINCE = (6, 19)


def block(subject: Subject, evidence: Evidence) -> None:
    """ext4 on virtio-blk keeps data at block sizes below and at the page size, and refuses larger ones."""
    drivers = (("VIRTIO_BLK", "virtio_blk"), ("EXT4_FS", "ext4"))
    if not all(subject.has_driver(evidence, *driver) for driver in drivers):
        return
    for block_bytes in block_sizes_for(subject.page_size):
        if block_bytes <= subject.page_size.bytes:
            _use_file_system(subject, evidence, block_bytes)
        else:
            _refuse_file_system(subject, evidence, block_bytes)


def _mount(block_bytes: int, options: str = "") -> str:
    return (
        f"d=$(grep -lx ext4-{block_bytes} /sys/block/vd*/serial | cut -d/ -f4) && mkdir -p /mnt && "
        f"mount -t ext4 {options} /dev/$d /mnt"
    )


def _use_file_system(subject: Subject, evidence: Evidence, block_bytes: int) -> None:
    what = f"ext4 with {block_bytes}-byte blocks"
    done = subject.sh(_mount(block_bytes))
    if not evidence.holds(what, done.ok, wanted="mounted", seen=last_words(done)):
        return
    copy_pattern(subject, evidence, what)
    done = subject.sh("umount /mnt")
    evidence.holds(what, done.ok, wanted="unmounted", seen=last_words(done))
    problem = check_ext4(subject.machine.disk_path(f"ext4-{block_bytes}"), "/copy")
    evidence.equal(f"{what}, seen from the host afterwards", "clean, same content", problem)


def copy_pattern(subject: Subject, evidence: Evidence, what: str) -> None:
    """Expect the host's pattern below /mnt, a copy of it, and one by direct I/O, to have its sum."""
    # Reading it back past the page cache tests both directions.
    done = subject.sh(
        "sha256sum < /mnt/pattern && cp /mnt/pattern /mnt/copy && sync && echo 3 > /proc/sys/vm/drop_caches "
        "&& sha256sum < /mnt/copy "
        "&& dd if=/mnt/copy of=/mnt/direct bs=64k iflag=direct oflag=direct 2>/dev/null "
        "&& echo 3 > /proc/sys/vm/drop_caches && sha256sum < /mnt/direct"
    )
    sums = [line.split()[0] for line in done.text.splitlines() if line.endswith(" -")]
    evidence.equal(f"{what}: sums of the pattern, its copy, its direct copy", [PATTERN_SHA256] * 3, sums)


def _refuse_file_system(subject: Subject, evidence: Evidence, block_bytes: int) -> None:
    what = f"ext4 with {block_bytes}-byte blocks, larger than a page"
    done = subject.sh(_mount(block_bytes, "-o ro"))
    if done.ok and at_least(subject.kernel.release, LARGE_BLOCKS_SINCE):
        seen = subject.sh("sha256sum /mnt/pattern; umount /mnt").text
        evidence.holds(what, PATTERN_SHA256 in seen, wanted="readable", seen=seen.strip()[-200:])
        return
    refused = not done.ok and "Invalid argument" in done.text
    evidence.holds(what, refused, wanted="refused with EINVAL", seen=last_words(done))


def network(subject: Subject, evidence: Evidence) -> None:
    """virtio-net carries pings larger than a page and a megabyte of TCP, unchanged."""
    if not subject.has_driver(evidence, "VIRTIO_NET", "virtio_net"):
        return
    done = subject.sh(f"{VIRTIO_CARD}; ip link set $card up && ip addr replace 10.0.2.15/24 dev $card")
    if not evidence.holds("virtio-net's card", done.ok, wanted="configured", seen=last_words(done)):
        return
    for size_bytes in PING_BYTES:
        done = subject.sh(f"ping -c {PINGS} -i 0.05 -W 5 -s {size_bytes} 10.0.2.2")
        loss = re.findall(r"\d+% packet loss", done.text)
        evidence.equal(f"ping of {size_bytes} bytes", ["0% packet loss"], loss)
    evidence.tap("probe tcp", *subject.probe("tcp", "10.0.2.100", "7", str(TCP_BYTES)))


def modules(subject: Subject, evidence: Evidence) -> None:
    """A module loads, does its work and unloads."""
    if subject.kernel.modules is None:
        evidence.not_here("no modules were given with this kernel (--modules DIR)")
        return
    if subject.presence("DUMMY", "dummy") is not Presence.MODULE:
        evidence.not_here(
            "the network driver `dummy`, which this check loads, is not a module of this kernel"
        )
        return
    loaded = "grep -q '^dummy ' /proc/modules"
    done = subject.sh(f"modprobe dummy && {loaded}")
    evidence.holds("module dummy", done.ok, wanted="loaded", seen=last_words(done))
    done = subject.sh("ip link add granule0 type dummy && ip link show granule0 && ip link del granule0")
    evidence.holds("its network device", done.ok, wanted="made and removed", seen=last_words(done))
    done = subject.sh(f"rmmod dummy && ! {loaded}")
    evidence.holds("module dummy", done.ok, wanted="unloaded", seen=last_words(done))


def hotplug(subject: Subject, evidence: Evidence) -> None:
    """A CPU goes offline and comes back, and runs a process afterwards."""
    if subject.machine.spec.vcpus < 2:
        evidence.not_here("the cell has one vCPU")
        return
    control = "/sys/devices/system/cpu/cpu1/online"
    if not subject.sh(f"test -w {control}").ok:
        evidence.not_here("the kernel has no HOTPLUG_CPU")
        return
    if subject.machine.hyperv is not None:
        # Channels keep the CPU that they interrupt online (Linux drivers/hv/hv.c, hv_synic_cleanup()).
        done = subject.sh("for c in /sys/bus/vmbus/devices/*/channels/*/cpu; do echo 0 >$c || exit 1; done")
        evidence.holds("channels of VMBus", done.ok, wanted="moved to cpu0", seen=last_words(done))
    before = _online(subject)
    evidence.holds("cpu1 before", 1 in before, wanted="online", seen=f"online: {sorted(before)}")
    for value, wanted in ((0, before - {1}), (1, before)):
        done = subject.sh(f"echo {value} > {control}")
        evidence.holds(f"writing {value} to cpu1/online", done.ok, wanted="taken", seen=last_words(done))
        evidence.equal("CPUs online then", sorted(wanted), sorted(_online(subject)))
    done = subject.sh("taskset 2 grep Cpus_allowed_list /proc/self/status")
    evidence.equal("CPUs allowed to a process bound to cpu1", ["1"], done.text.split()[1:])


def _online(subject: Subject) -> set[int]:
    return cpu_list(subject.sh("cat /sys/devices/system/cpu/online").text)


def cpu_list(text: str) -> set[int]:
    """The CPU numbers in a list such as `0-1,3` (Linux Documentation/admin-guide/cputopology.rst).

    Empty for anything else, an error message included.
    """
    if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text.strip()):
        return set()
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def last_words(done: Completed) -> str:
    """The end of what a command said, or its status."""
    return done.text.strip()[-200:] or f"status {done.status}"
