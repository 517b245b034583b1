"""Which checks files call for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.series.affected import Rules, decide
from harness.spec import Platform
from tests.unit.series.fakes import patch

GROUPS = """
schema = 1
[group.boot]
checks = ["page-size"]
always = true
[group.mm]
checks = ["mapping"]
"""


@pytest.fixture(scope="module")
def rules() -> Rules:
    """Our own."""
    return Rules.read()


@pytest.mark.parametrize(
    ("file", "groups", "builds"),
    [
        ("Documentation/mm/slab.rst", (), False),
        ("MAINTAINERS", (), False),
        ("arch/x86/mm/init.c", (), False),
        ("drivers/hv/channel.c", ("hyperv",), True),
        ("drivers/net/hyperv/netvsc.c", ("hyperv",), True),
        ("drivers/scsi/storvsc_drv.c", ("hyperv",), True),
        ("mm/mmap.c", ("mm", "tables"), True),
        ("mm/huge_memory.c", ("mm", "huge", "tables"), True),
        ("arch/arm64/mm/mmu.c", ("mm", "huge", "tables"), True),
        ("arch/arm64/include/asm/pgtable-hwdef.h", ("mm", "huge", "tables"), True),
        ("drivers/gpu/drm/drm_gem.c", (), True),
        ("fs/btrfs/inode.c", (), True),
        ("fs/read_write.c", ("mm", "tables", "devices"), True),
        ("kernel/fork.c", ("mm", "tables", "devices"), True),
        ("something/new.c", ("mm", "tables", "devices"), True),
    ],
)
def test_rules(rules: Rules, file: str, groups: tuple[str, ...], builds: bool) -> None:
    """Files lead to the checks that exercise them; what nothing drives is built, and text is not."""
    found = rules.affected([file])
    assert (found.groups, found.builds) == (groups, builds)
    assert found.reasons[file]


def test_a_patch_is_its_files_together(rules: Rules) -> None:
    """One file that builds is enough, and groups are joined."""
    found = rules.affected(["Documentation/a.rst", "drivers/hv/hv.c", "mm/slub.c"])
    assert (found.groups, found.builds) == (("mm", "tables", "hyperv"), True)


def test_decision_follows_the_files(rules: Rules) -> None:
    """The kernels are asked what all patches call for, by platform, and get the drivers for it."""
    decision = decide([patch(1, "mm/a.c"), patch(2, "drivers/hv/hv.c"), patch(3, "drivers/gpu/a.c")], rules)
    assert decision.groups == ("boot", "mm", "tables", "hyperv")
    assert [suite.platform for suite in decision.suites] == [Platform.VIRT, Platform.HYPERV]
    assert decision.exercised == (True, True, False)
    assert decision.fragments == ("hyperv",)


def test_decision_by_name(rules: Rules) -> None:
    """--checks takes the place of what files call for, and a patch that it does not exercise is told so."""
    decision = decide([patch(1, "mm/a.c"), patch(2, "drivers/hv/hv.c")], rules, ["swap"])
    assert decision.exercised == (True, False)
    (suite,) = decision.suites
    assert suite.names == ("page-size", "swap")


def test_unknown_check(rules: Rules) -> None:
    """It is refused with what there is."""
    with pytest.raises(UsageError, match=r"no such group .*tables.* nor such a check .*mapping"):
        decide([patch(1)], rules, ["nonsense"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 2", "schema 2"),
        (GROUPS, "no group or no rule"),
        (GROUPS + '[[rule]]\npaths = ["a"]\ngroups = ["huge"]', "rule 1: there is no group 'huge'"),
        (GROUPS + '[[rule]]\ngroups = ["mm"]', "rule 1: no paths"),
        (GROUPS + '[[rule]]\npaths = ["a"]\nchecks = []', "unknown keys checks"),
        (GROUPS + '[group.x]\nchecks = ["nonsense"]', "there is no check 'nonsense'"),
        ("schema = ", "cannot read"),
    ],
)
def test_rules_with_mistakes(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong with a file of rules is told with its place."""
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        Rules.read(path)
