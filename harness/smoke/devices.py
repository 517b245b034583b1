"""Disk, network, modules and CPUs: the parts of a kernel that a page size reaches through drivers."""

from __future__ import annotations

import re

from harness.build.disks import PATTERN_SHA256, block_sizes_for, check_ext4
from harness.linux.release import at_least
from harness.smoke.evidence import Evidence
from harness.smoke.subject import Subject

__all__ = ["block", "hotplug", "modules", "network"]

# One below and one above what fits a frame, and one that needs several pages at 4K.
PING_BYTES = (56, 1400, 9000)
PINGS = 3
TCP_BYTES = 1 << 20
# Linux 6.19 lets ext4 have blocks larger than a page ("ext4: enable block size larger than page size").
LARGE_BLOCKS_SINCE = (6, 19)


def block(subject: Subject, evidence: Evidence) -> None:
    """ext4 on virtio-blk keeps data at block sizes below and at the page size, and refuses larger ones."""
    if not subject.can_load("virtio_blk") or not subject.can_load("ext4"):
        evidence.not_here("the kernel has no virtio-blk or no ext4, or its modules were not given")
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
    if not evidence.holds(what, done.ok, wanted="mounted", seen=done.text.strip()[-200:]):
        return
    # The pattern was laid down by the host; reading it back past the page cache tests both directions.
    done = subject.sh(
        "sha256sum < /mnt/pattern && cp /mnt/pattern /mnt/copy && sync && echo 3 > /proc/sys/vm/drop_caches "
        "&& sha256sum < /mnt/copy "
        "&& dd if=/mnt/copy of=/mnt/direct bs=64k iflag=direct oflag=direct 2>/dev/null "
        "&& echo 3 > /proc/sys/vm/drop_caches && sha256sum < /mnt/direct"
    )
    sums = [line.split()[0] for line in done.text.splitlines() if line.endswith(" -")]
    evidence.equal(f"{what}: sums of the pattern, its copy, its direct copy", [PATTERN_SHA256] * 3, sums)
    done = subject.sh("umount /mnt")
    evidence.holds(what, done.ok, wanted="unmounted", seen=done.text.strip()[-200:])
    problem = check_ext4(subject.machine.disk_path(f"ext4-{block_bytes}"), "/copy")
    evidence.equal(f"{what}, seen from the host afterwards", "clean, same content", problem)


def _refuse_file_system(subject: Subject, evidence: Evidence, block_bytes: int) -> None:
    what = f"ext4 with {block_bytes}-byte blocks, larger than a page"
    done = subject.sh(_mount(block_bytes, "-o ro"))
    if at_least(subject.kernel.release, LARGE_BLOCKS_SINCE):
        mounted = done.ok and PATTERN_SHA256 in subject.sh("sha256sum /mnt/pattern; umount /mnt").text
        evidence.holds(
            what, mounted or not done.ok, wanted="refused, or readable", seen="mounted, wrong data"
        )
        return
    refused = not done.ok and "Invalid argument" in done.text
    evidence.holds(what, refused, wanted="refused with EINVAL", seen=done.text.strip()[-200:] or "mounted")


def network(subject: Subject, evidence: Evidence) -> None:
    """virtio-net carries pings larger than a page and a megabyte of TCP, unchanged."""
    if not subject.can_load("virtio_net"):
        evidence.not_here("the kernel has no virtio-net, or its modules were not given")
        return
    done = subject.sh("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0")
    if not evidence.holds("eth0", done.ok, wanted="configured", seen=done.text.strip()[-200:]):
        return
    for size_bytes in PING_BYTES:
        done = subject.sh(f"ping -c {PINGS} -i 0.05 -W 5 -s {size_bytes} 10.0.2.2")
        loss = re.findall(r"\d+% packet loss", done.text)
        evidence.equal(f"ping of {size_bytes} bytes", ["0% packet loss"], loss)
    evidence.tap("probe tcp", *subject.probe("tcp", "10.0.2.100", "7", str(TCP_BYTES)))


def modules(subject: Subject, evidence: Evidence) -> None:
    """A module loads, does its work and unloads."""
    if subject.option("MODULES") is None or subject.kernel.modules is None:
        evidence.not_here("the kernel has no modules, or they were not given")
        return
    if subject.option("DUMMY") != "m":
        evidence.not_here("the network driver `dummy` is not a module of this kernel")
        return
    loaded = "grep -q '^dummy ' /proc/modules"
    done = subject.sh(f"modprobe dummy && {loaded}")
    evidence.holds("module dummy", done.ok, wanted="loaded", seen=done.text.strip()[-200:])
    done = subject.sh("ip link add granule0 type dummy && ip link show granule0 && ip link del granule0")
    evidence.holds("its network device", done.ok, wanted="made and removed", seen=done.text.strip()[-200:])
    done = subject.sh(f"rmmod dummy && ! {loaded}")
    evidence.holds("module dummy", done.ok, wanted="unloaded", seen=done.text.strip()[-200:])


def hotplug(subject: Subject, evidence: Evidence) -> None:
    """A CPU goes offline and comes back, and runs a process afterwards."""
    if subject.machine.spec.vcpus < 2:
        evidence.not_here("the cell has one vCPU")
        return
    control = "/sys/devices/system/cpu/cpu1/online"
    if not subject.sh(f"test -w {control}").ok:
        evidence.not_here("the kernel has no HOTPLUG_CPU")
        return
    online = "cat /sys/devices/system/cpu/online"
    before = subject.sh(online).text.strip()
    done = subject.sh(f"echo 0 > {control}; {online}")
    evidence.holds("cpu1", "1" not in _cpus(done.text), wanted="offline", seen=f"online: {done.text.strip()}")
    done = subject.sh(f"echo 1 > {control}; {online}")
    evidence.equal("CPUs online after cpu1 came back", before, done.text.strip())
    done = subject.sh("taskset 2 grep Cpus_allowed_list /proc/self/status")
    evidence.equal("CPUs allowed to a process bound to cpu1", ["1"], done.text.split()[1:])


def _cpus(text: str) -> set[str]:
    """The CPU numbers in a list such as `0-1,3` (Linux Documentation/admin-guide/cputopology.rst)."""
    numbers: set[str] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            numbers |= {str(number) for number in range(int(first), int(last or first) + 1)}
    return numbers
