"""Weeding tiny trees with a fake make: which options go, in how many rounds, and what is said of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError, UsageError
from harness.weed.failures import Kind
from harness.weed.verdicts import Outcome, Proof, Why
from harness.weed.weeding import Weeding


def run(plan: Any, keep: tuple[str, ...] = (), only: tuple[str, ...] = (), config: Any = None) -> Outcome:
    """A whole weeding of a plan."""
    return Weeding(plan.bench(config), keep=frozenset(keep), only=only).run()


def off(outcome: Outcome) -> set[str]:
    return {dropped.option for dropped in outcome.dropped}


def test_nothing_to_weed(plan: Any) -> None:
    """A tree that builds loses nothing: one round, and the last build."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO")
    outcome = run(plan)
    assert (off(outcome), outcome.works, outcome.spent.rounds) == (set(), True, 1)
    assert plan.calls() == ["Image modules", "Image modules"]


def test_exactly_the_broken_ones_go(plan: Any) -> None:
    """Options whose objects do not compile are off, and no others; the failure and its proof are told."""
    for name in ("FOO", "BAR", "BAZ"):
        plan.option(name)
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/bar.o", "BAR")
    plan.object("fs/baz.o", "BAZ", fails="compile")
    outcome = run(plan)
    assert off(outcome) == {"FOO", "BAZ"}
    assert outcome.works
    assert outcome.image is not None
    first = outcome.dropped[0]
    assert (first.value, first.proof, first.failures[0].source) == ("y", Proof.OBJECT, "drivers/foo.c")
    assert first.failures[0].error == "drivers/foo.c:7:3: error: 'foo_x' undeclared"
    assert "CONFIG_BAR=y" in outcome.config
    assert "# CONFIG_FOO is not set" in outcome.config


def test_link_and_modpost_count(plan: Any) -> None:
    """What only linking or modpost shows is found after the compile errors, both in one round."""
    for name in ("FOO", "BUILTIN", "MODULE"):
        plan.option(name)
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/builtin.o", "BUILTIN", fails="link")
    plan.object("drivers/module.o", "MODULE", fails="modpost")
    outcome = run(plan)
    kinds = {dropped.option: dropped.failures[0].kind for dropped in outcome.dropped}
    assert kinds == {"FOO": Kind.COMPILE, "BUILTIN": Kind.LINK, "MODULE": Kind.MODPOST}
    proofs = {dropped.option: dropped.proof for dropped in outcome.dropped}
    assert proofs == {"FOO": Proof.OBJECT, "BUILTIN": Proof.LINK, "MODULE": Proof.MODPOST}
    assert outcome.spent.rounds == 3


def test_proofs_build_only_what_failed(plan: Any) -> None:
    """An option is proven by its own objects, or by vmlinux or the modules where those had failed."""
    for name in ("FOO", "BUILTIN", "MODULE"):
        plan.option(name)
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/builtin.o", "BUILTIN", fails="link")
    plan.object("drivers/module.o", "MODULE", fails="modpost")
    run(plan)
    rounds = ["Image modules"] * 3
    assert plan.calls() == [*rounds, "drivers/foo.o", "vmlinux", "modules", "Image modules"]


def test_what_goes_with_it_is_told(plan: Any) -> None:
    """Options that depend on one that is off go with it, and are not turned off by themselves."""
    plan.option("FOO")
    plan.option("FOO_EXTRA", depends=["FOO"])
    plan.option("FOO_MORE", depends=["FOO_EXTRA"])
    plan.object("drivers/foo.o", "FOO", fails="compile")
    (dropped,) = run(plan).dropped
    assert (dropped.option, dropped.takes) == ("FOO", ("FOO_EXTRA", "FOO_MORE"))


def test_broken_dependent_is_not_listed_by_itself(plan: Any) -> None:
    """What is broken and goes anyway is not turned off, but is marked as broken too."""
    plan.option("FOO")
    plan.option("FOO_EXTRA", depends=["FOO"])
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/extra.o", "FOO_EXTRA", fails="compile")
    (dropped,) = run(plan).dropped
    assert (dropped.option, dropped.takes, dropped.broken_too) == ("FOO", ("FOO_EXTRA",), ("FOO_EXTRA",))


def test_held_option_goes_through_its_selectors(plan: Any) -> None:
    """An option that others select is off because they are, and each says what it held on."""
    plan.option("HELPER")
    plan.option("USER_A", selects=["HELPER"])
    plan.option("USER_B", selects=["HELPER"])
    plan.option("OTHER")
    plan.object("lib/helper.o", "HELPER", fails="compile")
    outcome = run(plan)
    assert {d.option: d.instead_of for d in outcome.dropped if d.instead_of} == {
        "USER_A": "HELPER",
        "USER_B": "HELPER",
    }
    assert off(outcome) == {"HELPER", "USER_A", "USER_B"}
    assert outcome.spent.rounds == 2
    assert "# CONFIG_HELPER is not set" in outcome.config
    assert "CONFIG_OTHER=y" in outcome.config
    assert outcome.works


def test_cheapest_selectors_go(plan: Any) -> None:
    """Of two ways to end a select the one that loses fewer options is taken."""
    plan.option("SUBSYSTEM")
    plan.option("DEPENDS_A", depends=["SUBSYSTEM"])
    plan.option("DEPENDS_B", depends=["SUBSYSTEM"])
    plan.option("SMALL")
    plan.option("HIDDEN", prompt=False, default="y", depends=["SUBSYSTEM", "SMALL"])
    plan.object("lib/hidden.o", "HIDDEN", fails="compile")
    outcome = run(plan)
    assert off(outcome) == {"SMALL"}
    assert outcome.dropped[0].instead_of == "HIDDEN"


def test_kept_option_is_reported(plan: Any) -> None:
    """An option to be kept stays on, its error is told, and the others are weeded all the same."""
    plan.option("FOO")
    plan.option("BAR")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/bar.o", "BAR", fails="compile")
    outcome = run(plan, keep=("FOO",))
    assert off(outcome) == {"BAR"}
    (stuck,) = outcome.stuck
    assert (stuck.why, stuck.option, stuck.failure.object) == (Why.KEPT, "FOO", "drivers/foo.o")
    assert not outcome.works
    assert outcome.image is None
    assert "CONFIG_FOO=y" in outcome.config
    assert "# Still broken (kept and broken): drivers/foo.o" in outcome.fragment


def test_what_would_take_a_kept_option_stays(plan: Any) -> None:
    """An option that a kept one depends on is not turned off either."""
    plan.option("BUS")
    plan.option("DEVICE", depends=["BUS"])
    plan.object("drivers/bus.o", "BUS", fails="compile")
    outcome = run(plan, keep=("DEVICE",))
    assert off(outcome) == set()
    assert [(stuck.why, stuck.option) for stuck in outcome.stuck] == [(Why.KEPT, "DEVICE")]


def test_core_code_has_no_option(plan: Any) -> None:
    """An object that no option has built is reported, and ends the weeding without an Image."""
    plan.object("mm/core.o", fails="compile")
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    outcome = run(plan)
    assert off(outcome) == {"FOO"}
    assert [(stuck.why, stuck.failure.object) for stuck in outcome.stuck] == [(Why.NO_OPTION, "mm/core.o")]
    assert not outcome.works


def test_unremovable_option_is_told(plan: Any) -> None:
    """An option that nothing turns off is told by name."""
    plan.option("ALWAYS", prompt=False, default="y")
    plan.object("drivers/always.o", "ALWAYS", fails="compile")
    outcome = run(plan)
    assert [(stuck.why, stuck.option) for stuck in outcome.stuck] == [(Why.HELD, "ALWAYS")]


def test_what_builds_after_all_is_turned_on_again(plan: Any) -> None:
    """An option that failed only beside another one is on in the end: the set is minimal."""
    plan.option("FIRST")
    plan.option("SECOND")
    plan.option("BESIDE")
    plan.object("drivers/first.o", "FIRST", fails="compile")
    plan.object("drivers/second.o", "SECOND", "BESIDE", fails="compile")
    plan.object("drivers/beside.o", "BESIDE", fails="compile")
    outcome = run(plan)
    assert off(outcome) == {"FIRST", "BESIDE"}
    assert outcome.turned_back_on == ("SECOND",)
    assert "CONFIG_SECOND=y" in outcome.config
    assert outcome.works


def test_failure_of_the_last_build_is_weeded_too(plan: Any) -> None:
    """What only the build without leniency shows is turned off and proven, and all is built again."""
    plan.option("LATE")
    plan.object("drivers/late.o", "LATE", fails="strict")
    outcome = run(plan)
    assert [(dropped.option, dropped.proof) for dropped in outcome.dropped] == [("LATE", Proof.MODPOST)]
    assert outcome.works
    assert plan.calls() == ["Image modules"] * 3 + ["modules", "Image modules"]


def test_proof_that_misleads_is_settled_by_the_whole_build(plan: Any) -> None:
    """An option whose objects build alone, but not with everything, is off in the end and says so."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="whole")
    outcome = run(plan)
    assert [(dropped.option, dropped.proof) for dropped in outcome.dropped] == [("FOO", Proof.BUILD)]
    assert outcome.turned_back_on == ()
    assert outcome.works


def test_every_dropped_option_breaks_it_again(plan: Any) -> None:
    """Independently of the proofs: with any one of them on, the fake make fails; with all off it builds."""
    for name in ("A", "B", "C", "D"):
        plan.option(name)
    plan.option("E", selects=["D"])
    plan.object("drivers/a.o", "A", fails="compile")
    plan.object("drivers/b.o", "B", fails="link")
    plan.object("drivers/c.o", "C", fails="modpost")
    plan.object("drivers/d.o", "D", fails="compile")
    outcome = run(plan)
    names = off(outcome)
    bench = plan.bench()
    for name in names:
        bench.configure(names - {name})
        assert bench.attempt(["Image", "modules"], lenient=False)
    bench.configure(names)
    assert not bench.attempt(["Image", "modules"], lenient=False)


def test_only_some_directories(plan: Any) -> None:
    """With `only` the rest is not built: its failures are not found, and there is no Image."""
    plan.option("FOO")
    plan.option("BAZ")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("fs/baz.o", "BAZ", fails="compile")
    outcome = run(plan, only=("drivers",))
    assert off(outcome) == {"FOO"}
    assert (outcome.works, outcome.image) == (True, None)
    assert plan.calls() == ["drivers/", "drivers/", "drivers/foo.o"]


def test_kept_option_must_be_on(plan: Any) -> None:
    """Keeping what the configuration does not have is refused before anything is built."""
    plan.option("FOO")
    with pytest.raises(UsageError, match="--keep names CONFIG_BAR"):
        run(plan, keep=("BAR",))
    assert plan.calls() == []


def test_machine_at_fault_blames_no_option(plan: Any) -> None:
    """A full disk ends the weeding as an error of the machine; nothing is turned off for it."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="machine")
    weeding = Weeding(plan.bench())
    with pytest.raises(InfraError, match="No space left on device"):
        weeding.run()
    assert weeding.outcome().dropped == ()


def test_interrupt_leaves_what_was_found(plan: Any) -> None:
    """After Ctrl-C in the second round, the options of the first are told, as unproven and unfinished."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    plan.object("drivers/other.o")

    def interrupt(_done: int, _total: int | None, what: str) -> None:
        if what.startswith("round 2"):
            raise KeyboardInterrupt

    bench = plan.bench()
    bench.build = replace(bench.build, progress=interrupt)
    weeding = Weeding(bench)
    with pytest.raises(KeyboardInterrupt):
        weeding.run()
    outcome = weeding.outcome()
    assert [(d.option, d.proof) for d in outcome.dropped] == [("FOO", Proof.NONE)]
    assert not outcome.is_complete
    assert outcome.image is None


def test_modules_stay_modules(plan: Any) -> None:
    """Options are told with the value that they had."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    (dropped,) = run(plan, config={"MODULES": "y", "FOO": "m"}).dropped
    assert dropped.value == "m"


def test_tree_is_not_written_to(plan: Any) -> None:
    """A weeding leaves the tree as it was."""
    plan.option("FOO")
    plan.object("drivers/foo.o", "FOO", fails="compile")
    bench = plan.bench()

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in sorted(plan.tree.rglob("*"))}

    before = state()
    Weeding(bench).run()
    assert state() == before


def test_fragment_over_the_given_configuration_works(plan: Any) -> None:
    """The fragment alone, applied over what was given, gives the working configuration."""
    plan.option("HELPER")
    plan.option("FOO", selects=["HELPER"])
    plan.option("FOO_EXTRA", depends=["FOO"])
    plan.object("lib/helper.o", "HELPER", fails="compile")
    outcome = run(plan)
    bench = plan.bench()
    bench.base += outcome.fragment
    bench.configure(())
    assert (plan.output / ".config").read_text() == outcome.config
