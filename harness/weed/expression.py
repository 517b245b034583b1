"""Kconfig's expressions: their value, and what would make them false.

Source: Linux Documentation/kbuild/kconfig-language.rst, "Menu dependencies"; scripts/kconfig/expr.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

__all__ = ["YES", "Expression", "parse"]

_TOKEN = re.compile(
    r"\s*(&&|\|\||!=|<=|>=|[!()=<>]|\"(?:[^\"\\]|\\.)*\"|'[^']*'|\$\((?:[^()]|\([^()]*\))*\)|[^\s()!=<>&|\"']+)"
)
_VALUES = {"n": 0, "m": 1, "y": 2}
_MAX_SETS = 8
_MAX_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Expression:
    """An operator with its operands; `name` for a symbol, whose operator is empty."""

    operator: str
    operands: tuple[Expression, ...] = ()
    name: str = ""

    def value(self, config: Mapping[str, str]) -> int:
        """0 (n), 1 (m) or 2 (y). What only the tree's scripts could tell counts as y."""
        if self.operator == "":
            return _VALUES.get(self.name, _VALUES.get(config.get(self.name, "n"), 2))
        if self.operator == "?":
            return 2
        if self.operator == "!":
            return 2 - self.operands[0].value(config)
        if self.operator in ("&&", "||"):
            values = [operand.value(config) for operand in self.operands]
            return min(values) if self.operator == "&&" else max(values)
        left, right = (_text(operand, config) for operand in self.operands)
        if self.operator in ("=", "!="):
            return 2 if (left == right) is (self.operator == "=") else 0
        return 2  # an order between numbers, mostly of versions of tools

    def breakers(self, config: Mapping[str, str]) -> tuple[frozenset[str], ...]:
        """Sets of options each of which, turned off, makes it false; none where none does. At most 8."""
        if self.operator == "":
            is_on = self.name not in _VALUES and config.get(self.name) in ("y", "m")
            return (frozenset({self.name}),) if is_on else ()
        if self.operator == "&&":
            found = [some for operand in self.operands for some in operand.breakers(config)]
            return tuple(dict.fromkeys(found))[:_MAX_SETS]
        if self.operator == "||":
            true = [operand for operand in self.operands if operand.value(config)]
            together = product(*(operand.breakers(config) for operand in true))
            unions = (frozenset().union(*some) for some, _ in zip(together, range(_MAX_SETS), strict=False))
            return tuple(dict.fromkeys(unions))
        if self.operator in ("=", "!=") and self.value(config):
            names = [operand.name for operand in self.operands if config.get(operand.name) in ("y", "m")]
            without = {**config, **dict.fromkeys(names, "n")}
            return (frozenset(names),) if names and not self.value(without) else ()
        return ()


YES = Expression("", name="y")


def parse(text: str) -> Expression:
    """The expression in a line; what cannot be read is taken as y, as what only scripts could tell is."""
    tokens = _TOKEN.findall(text)
    if not tokens or len(tokens) > _MAX_TOKENS:
        return YES
    expression, rest = _alternatives(tokens)
    return expression if not rest else Expression("?")


def _alternatives(tokens: list[str]) -> tuple[Expression, list[str]]:
    return _joined(tokens, "||")


def _joined(tokens: list[str], operator: str) -> tuple[Expression, list[str]]:
    below = _factor if operator == "&&" else lambda left: _joined(left, "&&")
    first, rest = below(tokens)
    operands = [first]
    while rest and rest[0] == operator:
        operand, rest = below(rest[1:])
        operands.append(operand)
    return (first if len(operands) == 1 else Expression(operator, tuple(operands))), rest


def _factor(tokens: list[str]) -> tuple[Expression, list[str]]:
    if not tokens:
        return Expression("?"), []
    head, rest = tokens[0], tokens[1:]
    if head == "!":
        operand, rest = _factor(rest)
        return Expression("!", (operand,)), rest
    if head == "(":
        inner, rest = _alternatives(rest)
        return inner, rest[1:] if rest[:1] == [")"] else rest
    left = _symbol(head)
    if rest and rest[0] in ("=", "!=", "<", ">", "<=", ">=") and len(rest) > 1:
        return Expression(rest[0], (left, _symbol(rest[1]))), rest[2:]
    return left, rest


def _symbol(token: str) -> Expression:
    if token.startswith("$("):
        return Expression("?")
    return Expression("", name=token.strip("\"'"))


def _text(operand: Expression, config: Mapping[str, str]) -> str:
    """A symbol's value in a comparison; what is no symbol stands for itself."""
    return config.get(operand.name, operand.name if operand.name in _VALUES else _unset(operand.name))


def _unset(name: str) -> str:
    """An option that is not set is `n`; a number or a string is itself."""
    return "n" if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) else name
