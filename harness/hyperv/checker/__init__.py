"""Judges what crosses the wire by the page model: which driver broke which rule, and where in Linux it lies.

rules       the rules, as data
tally       comparisons and findings, counted for each rule
rings       lists of pages, rings, buffers
synic       the SynIC's pages, the bus's pages, the crash report
storage     storvsc's requests
network     netvsc's buffers and packets
dynamic_memory  hv_balloon's reports
checker     the observer that gives each of them what it needs
"""

from harness.hyperv.checker.checker import WireChecker
from harness.hyperv.checker.rules import RULES, WireRule
from harness.hyperv.checker.tally import CheckReport, Finding, RuleResult

__all__ = ["RULES", "CheckReport", "Finding", "RuleResult", "WireChecker", "WireRule"]
