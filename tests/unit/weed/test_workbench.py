"""One configuration after another in one output directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError
from harness.weed.definitions import defined_in
from harness.weed.failures import Kind
from harness.weed.workbench import prepared


def test_what_was_lost_comes_back(plan: Any) -> None:
    """Each configuration is made of the one given: an option and what went with it return."""
    plan.option("FOO")
    plan.option("EXTRA", depends=["FOO"])
    bench = plan.bench()
    assert bench.configure(()).enabled("EXTRA")
    assert not bench.configure({"FOO"}).enabled("EXTRA")
    assert bench.configure(()).enabled("EXTRA")
    assert "CONFIG_EXTRA=y" in (plan.output / ".config").read_text()


def test_equal_configurations_are_made_once(plan: Any) -> None:
    """kconfig is not asked again for what it has answered, and .config is not touched for nothing."""
    plan.option("FOO")
    bench = plan.bench()
    bench.configure({"FOO"})
    before = (plan.output / ".config").stat().st_mtime_ns
    bench.configure({"FOO"})
    assert (plan.output / ".config").stat().st_mtime_ns == before
    assert (plan.fakes / "called").read_text().count("olddefconfig") == 1


def test_kconfig_that_fails_is_told(plan: Any) -> None:
    """A tree whose Kconfig does not parse is an error with make's words."""
    bench = plan.bench()
    (plan.fakes / "tree.json").write_text("{")
    with pytest.raises(InfraError, match="olddefconfig"):
        bench.configure(())


def test_failure_that_names_nothing_is_told(plan: Any) -> None:
    """When make fails and its log blames no object, that is an error and not a clean build."""
    bench = plan.bench()
    bench.configure(())
    (plan.fakes / "tree.json").write_text("{")
    with pytest.raises(InfraError, match="does not say for which object"):
        bench.attempt(["Image"])


def test_all_referrers_are_blamed(plan: Any, tmp_path: Path) -> None:
    """Objects that refer to an undefined symbol and that ld did not list are found by nm."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="link")
    bench = plan.bench()
    (plan.output / "vmlinux.a").touch()
    nm = tmp_path / "bin" / "arm-nm"
    nm.write_text("#!/bin/sh\necho 'vmlinux.a:fs/other.o:                 U foo_sym'\n")
    nm.chmod(0o755)
    bench.build = replace(bench.build, toolchain=replace(bench.build.toolchain, prefix="arm-"))
    bench.configure(())
    failures = bench.attempt(["Image"])
    assert [(failure.object, failure.kind, failure.symbols) for failure in failures] == [
        ("drivers/foo.o", Kind.LINK, ("foo_sym",)),
        ("fs/other.o", Kind.LINK, ("foo_sym",)),
    ]


def test_progress_counts_to_the_last_first_build(plan: Any) -> None:
    """A later weeding of the tree shows its first build against the steps of the earlier one."""
    for number in range(120):
        plan.object(f"drivers/x{number}.o")
    told: list[tuple[int, int | None, str]] = []
    for _ in range(2):
        told.clear()
        bench = plan.bench()
        bench.round = "round 1"
        bench.build = replace(bench.build, progress=lambda *words: told.append(words))
        bench.configure(())
        bench.expect_first()
        bench.attempt(["Image"])
    assert told[0] == (1, 121, "round 1: CC drivers/x0.o")


def test_files_of_the_distribution_are_left_out(tmp_path: Path) -> None:
    """Certificates that the tree lacks are left out, with a note; those that it has, or makes, stay."""
    base = {"SYSTEM_TRUSTED_KEYS": "debian/certs.pem", "MODULE_SIG_KEY": "certs/signing_key.pem"}
    lines, notes = prepared(base, tmp_path, "# words\nCONFIG_ARM64_64K_PAGES=y\n# CONFIG_X is not set\n")
    assert lines.splitlines() == [
        "CONFIG_ARM64_64K_PAGES=y",
        "# CONFIG_X is not set",
        'CONFIG_SYSTEM_TRUSTED_KEYS=""',
    ]
    assert len(notes) == 1
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/certs.pem").touch()
    assert prepared(base, tmp_path, "") == ("", ())


def test_where_a_symbol_is_defined(tmp_path: Path) -> None:
    """An export is told before a definition; only directories of the objects, and above, are looked at."""
    for name, text in {
        "lib/near.c": "int sym_a(void)\n{\n}\nEXPORT_SYMBOL_GPL(sym_b);\n",
        "lib/deep/user.c": "int sym_b(int x)\n{\n}\nsym_c();\n",
        "fs/far.c": "EXPORT_SYMBOL(sym_c);\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = defined_in(tmp_path, {"sym_a", "sym_b", "sym_c"}, ["lib/deep/user.o"])
    assert found == {"sym_a": "lib/near.c", "sym_b": "lib/near.c"}
    assert defined_in(tmp_path, (), ["fs/far.o"]) == {}
