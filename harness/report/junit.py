"""junit.xml: the run for CI systems: a testsuite per cell, a testcase per check.

CI systems agree on the elements, not on a schema; what is written here is the part that Jenkins, GitLab and
GitHub's reporters all read. A cell whose verdict is not PASS and not that of one of its checks (a panic, a
hang, a kernel that never booted, no check at all) gets a testcase `cell` that does, so that no failure is
lost; skipped cells are one testsuite of skipped testcases. Control characters are illegal in XML 1.0 (2.2)
and are replaced.

May import harness.verdict and the standard library.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Final

from harness.verdict import CellResult, CheckResult, MatrixResult, Skipped, Verdict

__all__ = ["render_junit"]

MAX_CONSOLE_CHARS: Final = 64 << 10
"""The tail of the console that is kept: CI systems refuse or truncate larger files."""

_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: MatrixResult) -> str:
    """The report as XML text; a pure function of the result."""
    root = ET.Element("testsuites", name="granule", time=_time(result.duration_s))
    if result.caveats:
        properties = ET.SubElement(root, "properties")
        for caveat in result.caveats:
            ET.SubElement(properties, "property", name="caveat", value=_legal(caveat))
    for cell in result.cells:
        _suite(root, cell)
    if result.skipped:
        _skipped_suite(root, result.skipped)
    missing = result.expected - result.ran
    if missing > 0 or not result.expected:
        _missing_suite(root, result)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root.iter("testsuite"))))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, cell: CellResult) -> None:
    suite = ET.SubElement(root, "testsuite", name=_legal(cell.id), time=_time(cell.duration_s))
    properties = ET.SubElement(suite, "properties")
    in_force = cell.page_size_in_force
    facts = {
        "page_size_asked": cell.page_size_asked.label,
        "asking": cell.asking,
        "page_size_in_force": in_force.label if in_force else "unknown",
        "kernel": cell.kernel,
        "cpu": cell.cpu,
        "accel": cell.accel,
        "platform": cell.platform.value,
        "guest": cell.guest.value,
        "verdict": cell.verdict.value,
        "rerun": cell.rerun,
        "bundle": cell.bundle,
        **{f"provenance.{key}": value for key, value in sorted(cell.provenance.items())},
    }
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_legal(name), value=_legal(value))
    for check in cell.checks:
        _testcase(suite, cell, check)
    if not cell.verdict.is_pass and all(check.verdict is not cell.verdict for check in cell.checks):
        _cell_testcase(suite, cell)
    ET.SubElement(suite, "system-out").text = _legal(cell.console[-MAX_CONSOLE_CHARS:])
    _count(suite)


def _speaks(verdict: Verdict) -> bool:
    return verdict.is_failure or verdict is Verdict.INFRA


def _testcase(suite: ET.Element, cell: CellResult, check: CheckResult) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=_legal(cell.id), name=_legal(check.name), time=_time(check.duration_s)
    )
    lines = [str(finding) for finding in check.findings]
    message = lines[0] if lines else check.skip_reason or check.verdict.value
    body = "\n".join([*lines, "", f"run again: {cell.rerun}"])
    _outcome(case, check.verdict, message, body)
    if check.output:
        ET.SubElement(case, "system-out").text = _legal(check.output)


def _cell_testcase(suite: ET.Element, cell: CellResult) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=_legal(cell.id), name="cell", time=_time(cell.duration_s)
    )
    body = "\n".join([cell.reason, *cell.diagnosis, "", f"run again: {cell.rerun}", f"kept: {cell.bundle}"])
    _outcome(case, cell.verdict, cell.reason or cell.verdict.value, body)


def _outcome(case: ET.Element, verdict: Verdict, message: str, body: str) -> None:
    if verdict is Verdict.SKIP:
        ET.SubElement(case, "skipped", message=_legal(message))
    elif _speaks(verdict):
        tag = "error" if verdict is Verdict.INFRA else "failure"
        ET.SubElement(case, tag, type=verdict.value, message=_legal(message)).text = _legal(body)


def _skipped_suite(root: ET.Element, skipped: tuple[Skipped, ...]) -> None:
    suite = ET.SubElement(root, "testsuite", name="skipped cells", time=_time(0))
    for cell in skipped:
        case = ET.SubElement(suite, "testcase", classname=_legal(cell.id), name="cell", time=_time(0))
        _outcome(case, Verdict.SKIP, cell.reason, "")
    _count(suite)


def _missing_suite(root: ET.Element, result: MatrixResult) -> None:
    suite = ET.SubElement(root, "testsuite", name="matrix", time=_time(0))
    case = ET.SubElement(suite, "testcase", classname="matrix", name="every expected cell ran", time=_time(0))
    _outcome(case, Verdict.FAIL, f"{result.expected} cells were expected and {result.ran} ran", "")
    _count(suite)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
