"""`granule tables check`: the rules of the cross-check, on any guest."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from harness.check.half import KernelHalf
from harness.check.kernel_tables import RULES, rules_for
from harness.cli.tables.options import json_option, source_options, table_options
from harness.cli.tables.source import open_source
from harness.errors import ExitStatus
from harness.report.terminal import make_console
from harness.snapshot.crash_kernel import whole_ram
from harness.tables.half import Half, view_of
from harness.tables.json import SCHEMA
from harness.tables.words import count, safe

__all__ = ["check"]


@click.command()
@click.argument("source")
@json_option
@source_options
@table_options
def check(source: str, as_json: bool, vcpu: int | None, table_pa: int | None, **options: Any) -> None:
    """Hold every leaf of the kernel half against the rules: nothing writable and executable, and so on.

    Those that need the guest's own words (where its RAM, its image and its areas are) are left to `smoke`.

    Status 0: nothing was found; 1: something was.

    \b
    granule tables check debian-16k
    granule tables check guest.core
    """
    with open_source(source, options) as opened:
        view = view_of(opened.snapshot, vcpu=vcpu, table_pa=table_pa, half=Half.KERNEL)
        kernel = KernelHalf.of(view.listed(Half.KERNEL), opened.snapshot.read, whole_ram(opened.snapshot))
        rules = rules_for(kernel)
        findings = tuple(finding for rule in rules for finding in rule(kernel))
        leaves = len(kernel.leaves)
    if as_json:
        said = [{"what": one.what, "wanted": one.wanted, "seen": one.seen} for one in findings]
        value = {"schema": SCHEMA, "origin": safe(opened.label), "leaves": leaves, "rules": len(rules),
                 "rules_not_asked": len(RULES) - len(rules), "findings": said}  # fmt: skip
        click.echo(json.dumps(value, indent=2))
    else:
        console = make_console(sys.stdout)
        for finding in findings:
            console.print(f"- {safe(str(finding))}", soft_wrap=True, style="red")
        for note in view.notes:
            console.print(f"note: {safe(note)}", soft_wrap=True)
        told = f"{count(leaves, 'leaf', 'leaves')} held against {count(len(rules), 'rule')}"
        outcome = count(len(findings), "finding") if findings else "nothing found"
        if len(rules) < len(RULES):
            console.print(
                f"note: {len(RULES) - len(rules)} more rules need what a running guest says of itself: "
                "`granule smoke --check kernel-tables` asks it",
                soft_wrap=True,
            )
        console.print(f"{safe(opened.label)}: {told}: {outcome}", soft_wrap=True)
    click.get_current_context().exit(ExitStatus.FAILED if findings else ExitStatus.PASSED)
