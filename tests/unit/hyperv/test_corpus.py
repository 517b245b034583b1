"""Tests of harness.hyperv.corpus, and of the corpus itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.hyperv.corpus import read_corpus
from harness.hyperv.modules import MODULES
from harness.spec import PageSize

CORPUS = Path(__file__).parents[2] / "hyperv-corpus"
GOOD = """
schema = 1
[[bug]]
name = "one"
file = "drivers/hv/channel.c"
modules = ["hv_vmbus"]
rule = "ring.steps"
page_sizes = ["16k"]
why = "because"
"""


def test_the_corpus() -> None:
    """Every patch is in the index, changes just the file that is named, and all drivers are there."""
    bugs = read_corpus(CORPUS / "index.toml")
    assert {bug.patch.name for bug in bugs} == {path.name for path in CORPUS.glob("*.patch")}
    for bug in bugs:
        changed = [line for line in bug.patch.read_text().splitlines() if line.startswith("+++ ")]
        assert changed == [f"+++ b/{bug.file}"]
        if bug.file.startswith("drivers/") or bug.file.startswith("net/"):
            assert bug.file.rpartition("/")[0] in {MODULES[name].directory for name in bug.modules}
    assert {module for bug in bugs for module in bug.modules} == MODULES.keys()
    assert len(bugs) >= 12


def test_an_index(tmp_path: Path) -> None:
    """What the index says becomes a value."""
    (tmp_path / "one.patch").write_text("")
    (tmp_path / "index.toml").write_text(GOOD)
    (bug,) = read_corpus(tmp_path / "index.toml")
    assert (bug.page_sizes, bug.rule, bug.device) == ((PageSize.K16,), "ring.steps", "storvsc")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("schema = 1", "schema = 2"), "schema 2, and 1 is known"),
        (('rule = "ring.steps"', 'rule = "ring.stops"'), "there is no rule ring.stops"),
        (('rule = "ring.steps"', 'rule = "violation:SMELL"'), "there is no rule violation:SMELL"),
        (('["hv_vmbus"]', '["hv_bus"]'), "modules are among"),
        (('name = "one"', 'name = "two"'), "there is no two.patch"),
        (('why = "because"', ""), "one: why missing"),
        (('why = "because"', 'why = ""\nhow = ""'), "unknown keys how"),
        (("[[bug]]", "[[bug"), "cannot read the corpus"),
    ],
)
def test_mistakes_in_an_index(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """Each mistake is named, with the index and the entry."""
    (tmp_path / "one.patch").write_text("")
    (tmp_path / "index.toml").write_text(GOOD.replace(*change))
    with pytest.raises(UsageError, match=said):
        read_corpus(tmp_path / "index.toml")


def test_a_name_twice(tmp_path: Path) -> None:
    """A name stands for one patch."""
    (tmp_path / "one.patch").write_text("")
    (tmp_path / "index.toml").write_text(GOOD + GOOD.replace("schema = 1", ""))
    with pytest.raises(UsageError, match="has a name twice"):
        read_corpus(tmp_path / "index.toml")
