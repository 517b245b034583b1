"""The adapter of netvsc's: an address, pings, TCP both ways, and a change of its MTU."""

from __future__ import annotations

import re
from typing import Final

from harness.hyperv.net.host import GUEST_ADDRESS, HOST_ADDRESS
from harness.hyperv.peripherals import CONTENT_BYTES, SINK_PORT, SOURCE_PORT, content_md5
from harness.smoke.devices import last_words
from harness.smoke.evidence import Evidence
from harness.smoke.hyperv import host_of, soon
from harness.smoke.subject import Subject

__all__ = ["netvsc"]

PING_BYTES: Final = (1, 1472, 1473, 4000, 16384, 30000)
"""To either side of a frame's and of pages' ends; the longest ones are fragments."""
PINGS: Final = 3
MTUS: Final = (9000, 1500)
_HEADERS_BYTES: Final = 28
"""Of IPv4 and ICMP."""
_FIND: Final = (
    "for d in /sys/class/net/*; do "
    '[ "$(basename "$(readlink -f "$d/device/driver")")" = hv_netvsc ] && basename "$d"; done'
)
_PEER: Final = str(HOST_ADDRESS.ip)


def netvsc(subject: Subject, evidence: Evidence) -> None:
    """netvsc carries pings of 1 to 30,000 bytes and TCP both ways unchanged, at three MTUs."""
    if not subject.has_driver(evidence, "HYPERV_NET", "hv_netvsc"):
        return
    adapter = host_of(subject).peripherals.adapter
    name = _up(subject, evidence)
    if not name or adapter is None:
        return
    for size_bytes in PING_BYTES:
        _ping(subject, evidence, size_bytes)
    _tcp(subject, evidence, "with the MTU that it has at first")
    for mtu in MTUS:
        opens = adapter.opens
        done = subject.sh(f"ip link set {name} mtu {mtu}")
        evidence.holds(f"MTU {mtu}", done.ok, wanted="set", seen=last_words(done))
        evidence.equal(f"MTU {mtu}: channel opened anew, MTU told", (opens + 1, mtu),
                       (adapter.opens, adapter.adapter.mtu))  # fmt: skip
        for size_bytes in (mtu - _HEADERS_BYTES, max(PING_BYTES)):
            _ping(subject, evidence, size_bytes)
        _tcp(subject, evidence, f"with MTU {mtu}")
    packets = adapter.send.packets
    evidence.note(f"packets of the driver's by where their data were: {dict(packets)}")
    evidence.holds("packets outside the send buffer", packets["pages"] > 0, wanted="some, by page numbers",
                   seen=str(dict(packets)))  # fmt: skip


def _up(subject: Subject, evidence: Evidence) -> str:
    """The interface's name, with an address that DHCP gave; empty where it does not come up."""
    names: list[str] = []

    def there() -> bool:
        names[:] = subject.sh(_FIND).text.split()
        return len(names) == 1

    if not evidence.holds(
        "netvsc's interface", soon(subject, there, "an interface"), wanted="there", seen="none"
    ):
        return ""
    (name,) = names
    done = subject.sh(
        f"ip link set {name} up && udhcpc -i {name} -n -q -f -s /bin/true -t 10 -T 1 2>&1"
        f" && ip addr replace {GUEST_ADDRESS}/24 dev {name}"
    )
    leased = done.ok and str(GUEST_ADDRESS) in done.text
    return (
        name
        if evidence.holds("DHCP", leased, wanted=f"a lease of {GUEST_ADDRESS}", seen=last_words(done))
        else ""
    )


def _ping(subject: Subject, evidence: Evidence, size_bytes: int) -> None:
    done = subject.sh(f"ping -q -c {PINGS} -i 0.05 -s {size_bytes} -W 10 {_PEER}")
    loss = re.findall(r"\d+% packet loss", done.text)
    evidence.equal(f"ping of {size_bytes} bytes over netvsc", ["0% packet loss"], loss)


def _tcp(subject: Subject, evidence: Evidence, when: str) -> None:
    done = subject.sh(f"nc {_PEER} {SOURCE_PORT} </dev/null | md5sum")
    evidence.equal(f"MD5 of what came over TCP {when}", content_md5(), done.text[:32])
    # The guest makes it up, so that what the host saw can be nothing that it knew.
    done = subject.sh(
        f"dd if=/dev/urandom of=/tmp/sent bs=64k count={CONTENT_BYTES >> 16} 2>/dev/null; md5sum </tmp/sent; "
        f"nc {_PEER} {SINK_PORT} </tmp/sent; rm -f /tmp/sent"
    )
    words = done.text.split()
    own = words[0] if words else "nothing"
    evidence.equal(f"bytes and MD5 that the host saw {when}", [str(CONTENT_BYTES), own], words[2:])
