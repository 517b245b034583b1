"""The wire's verdict: what breaks a rule fails it by name, and so does a rule that had nothing to judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.hyperv.checker.rules import RULES, rule
from harness.hyperv.checker.tally import CheckReport, Tally
from harness.hyperv.violation import Rule, Violation
from harness.hyperv.wirelog import WireLog
from harness.smoke.hyperv import wire
from harness.verdict import CheckResult, Verdict

DRIVERS = {"hv_vmbus", "storvsc"}
DUE = [each.name for each in RULES if each.driver in DRIVERS and not each.when]


@dataclass
class Checker:
    """A checker whose report is made of what the test counted."""

    tally: Tally

    def report(self) -> CheckReport:
        """As WireChecker's."""
        return self.tally.report(DRIVERS, 0)


@dataclass
class Host:
    """As much of a host as is looked at."""

    log: WireLog = field(default_factory=WireLog)
    failure: str = ""
    checker: Any = None


def _host(*compared: str) -> tuple[Host, Tally]:
    host = Host()
    tally = Tally(host.log)
    host.checker = Checker(tally)
    for name in compared:
        tally.equal(name, "storvsc (channel 48)", 1, 1)
    return host, tally


def _judge(host: Host, passed: tuple[str, ...] | None = ("vmbus", "storvsc")) -> CheckResult:
    return wire(host, passed)  # type: ignore[arg-type]


def test_all_that_was_due_held() -> None:
    """Every rule that was due compared something: PASS, with an expectation for each."""
    host, _ = _host(*DUE)
    result = _judge(host)
    assert result.verdict is Verdict.PASS
    assert result.expectations == len(DUE) + 1  # and the host's thread lives


def test_a_broken_rule_is_named() -> None:
    """The finding has the driver, the rule, its place in Linux and what was seen, once."""
    host, tally = _host(*DUE)
    tally.equal("ring.downstream", "storvsc (channel 48)", 0x20, 0x1D)
    result = _judge(host)
    assert result.verdict is Verdict.FAIL
    (finding,) = result.findings
    assert "hv_vmbus, ring.downstream" in finding.what
    assert rule("ring.downstream").source in finding.what
    assert (finding.wanted, finding.seen.split()[-1]) == ("0x1d", "0x20")


def test_a_rule_that_judged_nothing() -> None:
    """In a guest that came up a rule without a comparison is a finding; in one that did not it is none."""
    host, _ = _host(*DUE[1:])
    (finding,) = _judge(host).findings
    assert DUE[0] in finding.what
    assert _judge(host, None).verdict is Verdict.PASS


def test_a_driver_that_nothing_exercised() -> None:
    """storvsc's rules are due where its check ran; hv_vmbus's are due in any case."""
    host, _ = _host(*(name for name in DUE if not name.startswith("storvsc.blocks")))
    assert _judge(host, ("vmbus",)).verdict is Verdict.PASS
    (finding,) = _judge(host).findings
    assert "storvsc.blocks" in finding.what


def test_a_broken_protocol_is_no_pass() -> None:
    """What the bus or a device refused fails the wire, whatever the rules say."""
    host, _ = _host(*DUE)
    host.log.violation(Violation(rule=Rule.RING, where="storvsc", what="write index 0x123"))
    (finding,) = _judge(host).findings
    assert "storvsc" in finding.what
    assert finding.seen == "write index 0x123"


def test_a_host_that_failed() -> None:
    """A thread of ours that ended is told."""
    host, _ = _host(*DUE)
    host.failure = "granule's host of the guest failed"
    assert _judge(host).verdict is Verdict.FAIL
