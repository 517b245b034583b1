"""Which checks a patch calls for: rules over the files that it touches, read from affected.toml.

A rule without groups is about files that nothing here exercises: a patch of those is built, and that is all
that can be said of it.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.errors import UsageError
from harness.kernels.trees.patches import Patch
from harness.smoke import EVERY_CHECK, Check
from harness.spec import GuestKind, Platform

__all__ = ["RULES_FILE", "Affected", "Decision", "Group", "Rule", "Rules", "Suite", "decide", "suites_of"]

RULES_FILE: Final = Path(__file__).with_name("affected.toml")
SCHEMA: Final = 1
_CHECKS: Final = {check.name: check for check in EVERY_CHECK if GuestKind.MICRO in check.guests}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Checks that belong together."""

    name: str
    checks: tuple[str, ...]
    platform: Platform = Platform.VIRT
    fragments: tuple[str, ...] = ()
    """Of kernel-configs, which a kernel needs for them."""
    always: bool = False
    """Asked of every kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What files of some paths are exercised by."""

    paths: tuple[str, ...]
    groups: tuple[str, ...] = ()
    builds: bool = True
    """False where no kernel is made of them."""
    why: str = ""

    def fits(self, path: str) -> bool:
        """True for a file below one of the directories, or that fits one of the patterns."""
        return any(_fits(path, pattern) for pattern in self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What was decided for a patch."""

    groups: tuple[str, ...]
    """Without those that are always asked; empty where nothing here exercises it."""
    builds: bool
    """False where it leaves the kernel as it was."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why, by file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Checks that share a guest: all that is asked on one platform."""

    platform: Platform
    checks: tuple[Check, ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the checks, in the order they run."""
        return tuple(check.name for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a series is asked."""

    affected: tuple[Affected, ...]
    """For each patch."""
    exercised: tuple[bool, ...]
    """For each patch: something of what is asked drives what it changes."""
    groups: tuple[str, ...]
    suites: tuple[Suite, ...]
    fragments: tuple[str, ...]
    """Of kernel-configs, which these kernels need besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All of a rules file."""

    groups: dict[str, Group]
    rules: tuple[Rule, ...]

    @classmethod
    def read(cls, path: Path = RULES_FILE) -> Rules:
        """From a file; raises UsageError for what is wrong with it."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"cannot read the rules {path}: {error}") from error
        if table.get("schema") != SCHEMA:
            raise UsageError(f"{path} has schema {table.get('schema')!r}, and {SCHEMA} is known")
        groups = {name: _group(path, name, each) for name, each in table.get("group", {}).items()}
        rules = tuple(
            _rule(path, number, each, groups) for number, each in enumerate(table.get("rule", ()), 1)
        )
        if not groups or not rules:
            raise UsageError(f"{path} has no group or no rule")
        return cls(groups=groups, rules=rules)

    def affected(self, files: Iterable[str]) -> Affected:
        """What a patch of these files calls for; a file that no rule fits is taken to be in every kernel."""
        builds = False
        wanted: set[str] = set()
        reasons: dict[str, str] = {}
        for file in files:
            rule = next(
                (rule for rule in self.rules if rule.fits(file)), Rule(paths=(), why="no rule knows it")
            )
            builds = builds or rule.builds
            wanted |= set(rule.groups)
            said = ", ".join(rule.groups) or (
                "nothing here exercises it" if rule.builds else "nothing to build"
            )
            reasons[file] = f"{said} ({rule.why})" if rule.why else said
        return Affected(
            groups=tuple(name for name in self.groups if name in wanted), builds=builds, reasons=reasons
        )

    def named(self, words: Sequence[str]) -> tuple[Group, ...]:
        """The groups or single checks of `--checks`; `smoke` and `all` stand for several groups.

        Raises UsageError naming what there is.
        """
        found: dict[str, Group] = {}
        for word in words:
            if word in ("smoke", "all"):
                virt = word == "smoke"
                found |= {
                    name: group
                    for name, group in self.groups.items()
                    if not virt or group.platform is Platform.VIRT
                }
            elif word in self.groups:
                found[word] = self.groups[word]
            elif word in _CHECKS:
                platform = _CHECKS[word].platform or Platform.VIRT
                fragments = ("hyperv",) if platform is Platform.HYPERV else ()
                found[word] = Group(name=word, checks=(word,), platform=platform, fragments=fragments)
            else:
                raise UsageError(
                    f"--checks {word}: there is no such group ({', '.join(self.groups)}, smoke, all), nor "
                    f"such a check ({', '.join(_CHECKS)})"
                )
        return tuple(found.values())

    def always(self) -> tuple[Group, ...]:
        """The groups that every kernel is asked."""
        return tuple(group for group in self.groups.values() if group.always)


def decide(patches: Sequence[Patch], rules: Rules, words: Sequence[str] = ()) -> Decision:
    """What to ask of the kernels of a series: what its patches call for, or what `--checks` names.

    What is always asked comes with either. Raises UsageError for an unknown word.
    """
    affected = tuple(rules.affected(patch.files) for patch in patches)
    if words:
        named = rules.named(words)
    else:
        wanted = {name for one in affected for name in one.groups}
        named = tuple(group for name, group in rules.groups.items() if name in wanted)
    groups = tuple({group.name: group for group in (*rules.always(), *named)}.values())
    asked = {check for group in groups if not group.always for check in group.checks}
    return Decision(
        affected=affected,
        exercised=tuple(
            any(asked & set(rules.groups[name].checks) for name in one.groups) for one in affected
        ),
        groups=tuple(group.name for group in groups),
        suites=suites_of(groups),
        fragments=tuple(dict.fromkeys(fragment for group in groups for fragment in group.fragments)),
    )


def suites_of(groups: Iterable[Group]) -> tuple[Suite, ...]:
    """The groups' checks by platform, virt first, each check once and in the order they run."""
    wanted: dict[Platform, set[str]] = {}
    for group in groups:
        wanted.setdefault(group.platform, set()).update(group.checks)
    return tuple(
        Suite(
            platform=platform, checks=tuple(check for check in EVERY_CHECK if check.name in wanted[platform])
        )
        for platform in Platform
        if platform in wanted
    )


def _fits(path: str, pattern: str) -> bool:
    if pattern.endswith("/"):
        if not any(sign in pattern for sign in "*?["):
            return path.startswith(pattern)
        pattern += "*"
    return fnmatch.fnmatchcase(path, pattern)


def _group(path: Path, name: str, table: dict[str, Any]) -> Group:
    unknown = table.keys() - {"checks", "platform", "fragments", "always"}
    checks = tuple(table.get("checks", ()))
    if unknown or not checks:
        raise UsageError(f"{path}, group {name}: {_wrong(unknown, 'no checks')}")
    for check in checks:
        if check not in _CHECKS:
            raise UsageError(f"{path}, group {name}: there is no check '{check}' for the micro guest")
    return Group(
        name=name,
        checks=checks,
        platform=Platform.parse(str(table.get("platform", "virt"))),
        fragments=tuple(table.get("fragments", ())),
        always=bool(table.get("always", False)),
    )


def _rule(path: Path, number: int, table: dict[str, Any], groups: dict[str, Group]) -> Rule:
    where = f"{path}, rule {number}"
    unknown = table.keys() - {"paths", "groups", "builds", "why"}
    if unknown or not table.get("paths"):
        raise UsageError(f"{where}: {_wrong(unknown, 'no paths')}")
    for name in table.get("groups", ()):
        if name not in groups:
            raise UsageError(f"{where}: there is no group '{name}'")
    return Rule(
        paths=tuple(table["paths"]),
        groups=tuple(table.get("groups", ())),
        builds=bool(table.get("builds", True)),
        why=str(table.get("why", "")),
    )


def _wrong(unknown: Iterable[str], otherwise: str) -> str:
    names = ", ".join(sorted(unknown))
    return f"unknown keys {names}" if names else otherwise
