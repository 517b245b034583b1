"""What holds an option on that was set to n, and which others to turn off instead.

A `select` forces an option on whatever the user says, and one without a visible prompt follows its defaults.
Source: Linux Documentation/kbuild/kconfig-language.rst, "Menu attributes"; scripts/kconfig/symbol.c
(sym_calc_value).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice, product

from harness.weed.kconfig_file import Options

__all__ = ["selectors_of", "substitutes"]

MAX_SETS = 16
_MAX_DEPTH = 6


def selectors_of(option: str, options: Options, config: Mapping[str, str]) -> tuple[str, ...]:
    """The options that select this one now."""
    return tuple(
        dict.fromkeys(
            name
            for name, condition in options.selectors.get(option, ())
            if config.get(name) in ("y", "m") and condition.value(config)
        )
    )


def substitutes(option: str, options: Options, config: Mapping[str, str]) -> tuple[frozenset[str], ...]:
    """Sets of options each of which, turned off, should turn this one off; the smallest first, at most 16.

    They are proposals: only the tree's kconfig knows. Empty where nothing that can be set holds it.
    """
    found = _ways(option, options, config, frozenset())
    return tuple(sorted(found, key=lambda some: (len(some), sorted(some))))[:MAX_SETS]


def _ways(
    option: str, options: Options, config: Mapping[str, str], seen: frozenset[str]
) -> tuple[frozenset[str], ...]:
    if option in seen or len(seen) > _MAX_DEPTH:
        return ()
    seen |= {option}
    holding = [
        _selector(name, option, options, config, seen) for name in selectors_of(option, options, config)
    ]
    if holding:
        return _all_of(holding)
    if options.is_settable(option, config):
        return (frozenset({option}),)
    return _all_of(_defaults(option, options, config, seen))


def _selector(
    name: str, option: str, options: Options, config: Mapping[str, str], seen: frozenset[str]
) -> list[frozenset[str]]:
    """Ways to end one option's selecting: turn it off, or make the `if` of its select false."""
    found = list(_ways(name, options, config, seen))
    for selector, condition in options.selectors.get(option, ()):
        if selector == name:
            for some in condition.breakers(config):
                found += _each(some, options, config, seen)
    return found


def _defaults(
    option: str, options: Options, config: Mapping[str, str], seen: frozenset[str]
) -> list[list[frozenset[str]]]:
    """For each entry that turns the option on, the ways to end that."""
    ways: list[list[frozenset[str]]] = []
    for entry in options.entries.get(option, ()):
        if not all(need.value(config) for need in entry.depends):
            continue
        giving = [
            (value, condition)
            for value, condition in entry.defaults
            if value.value(config) and condition.value(config)
        ]
        if not giving:
            continue
        ends = [some for need in entry.depends for some in need.breakers(config)]
        if len(giving) == 1:
            ends += [some for part in giving[0] for some in part.breakers(config)]
        ways.append([way for some in ends for way in _each(some, options, config, seen)])
    return ways


def _each(
    some: Iterable[str], options: Options, config: Mapping[str, str], seen: frozenset[str]
) -> tuple[frozenset[str], ...]:
    """The ways to turn off all of some options."""
    return _all_of([list(_ways(name, options, config, seen)) for name in sorted(some)])


def _all_of(needed: list[list[frozenset[str]]]) -> tuple[frozenset[str], ...]:
    """One way of each, joined; none where one of them has none."""
    if not needed:
        return ()
    joined = (frozenset().union(*some) for some in product(*needed))
    return tuple(dict.fromkeys(islice(joined, MAX_SETS)))
