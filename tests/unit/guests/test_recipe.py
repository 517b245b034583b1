"""Recipes of disk images: what they say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.guests.recipe import load_recipe, recipes

WHOLE = """
schema = 1
about = "a system of ours"
disk = "images/ours.qcow2"
root = "LABEL=ours"
cmdline = "selinux=0 quiet"
[may_fail]
"kdump.service" = "no room for it"
"a@b.mount" = "not here"
"""


@pytest.mark.parametrize("name", recipes())
def test_those_that_come_with_granule(name: str) -> None:
    """Each can be read by its name, and says what it is for."""
    assert load_recipe(name).about


def test_rhel() -> None:
    """A system of the RHEL kind has its root in the volume group that its installer makes."""
    assert load_recipe("rhel").root == "/dev/rhel/root"


def test_a_file(tmp_path: Path) -> None:
    """What a file says is taken, its disk relative to it, and units that may fail are words for the guest."""
    path = tmp_path / "ours.toml"
    path.write_text(WHOLE)
    recipe = load_recipe(str(path))
    assert (recipe.disk, recipe.root) == (tmp_path / "images/ours.qcow2", "LABEL=ours")
    assert recipe.words == ("selinux=0", "quiet", "granule.may_fail=kdump.service,a@b.mount")


def test_one_that_says_nothing(tmp_path: Path) -> None:
    """Only what it is about has to be said."""
    path = tmp_path / "bare.toml"
    path.write_text('schema = 1\nabout = "any"\n')
    recipe = load_recipe(str(path))
    assert (recipe.disk, recipe.root, recipe.words) == (None, None, ())


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "", "schema"),
        ('about = "a system of ours"', "", "about"),
        ("[may_fail]", "[may_faint]", "may_faint"),
        ('root = "LABEL=ours"', "root = 3", "root"),
        ('root = "LABEL=ours"', 'root = "sda1"', "sda1"),
        ('cmdline = "selinux=0 quiet"', r'cmdline = "a\nb"', "cmdline"),
        ('"kdump.service"', '"kdump"', "kdump"),
        ('"kdump.service"', '"a.service,b c.service"', "a.service,b"),
        ('"no room for it"', '""', "reason"),
        ('"no room for it"', "[1]", "reason"),
        ("[may_fail]", "[may_fail", "recipe"),
        (WHOLE, WHOLE + "".join(f'"{n}.service" = "x"\n' for n in range(15)), "16"),
        (WHOLE, "\xff" * 70000, "64 KiB"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, old: str, new: str, word: str) -> None:
    """A file that is wrong is refused, with its name and what is wrong."""
    path = tmp_path / "wrong.toml"
    path.write_bytes(WHOLE.replace(old, new).encode("latin-1"))
    with pytest.raises(UsageError, match=word) as raised:
        load_recipe(str(path))
    assert "wrong.toml" in str(raised.value)


def test_no_such_recipe() -> None:
    """A name that is neither a recipe nor a file is answered with the recipes that there are."""
    with pytest.raises(UsageError, match="rhel"):
        load_recipe("suse-of-ours")
