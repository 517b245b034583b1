"""Addresses to physical addresses, many at a time, as `harness.vmsa.walk` does without an access.

Leaves are first joined to spans, within which a physical address is the virtual one and a constant: a
kernel's hundred thousand leaves are a hundred spans, and the search is among those.
May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from harness.bulk.columns import Bools, Columns, LeafEntries, Words
from harness.bulk.leaves import Anomalies, Leaves, addresses, groups_log2
from harness.vmsa.descriptor import Leaf
from harness.vmsa.field import ones
from harness.vmsa.geometry import FINAL_LEVEL
from harness.vmsa.mapping import AnomalyKind
from harness.vmsa.regime import Regime, VaRange
from harness.vmsa.walk import Choices

__all__ = ["Segments", "segments", "translate"]

_DEFAULT: Final = Choices()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Spans(Columns):
    """Ranges of addresses, in order, and where each leads."""

    size_bytes: Words
    to: Words

    def find(self, addresses: Words) -> tuple[Words, Bools]:
        """Where addresses lead, and which do."""
        if not len(self):
            return np.zeros_like(addresses), np.zeros(len(addresses), np.bool_)
        # Below the first this takes the last, and the offset wraps: it is in none.
        at = np.searchsorted(self.va, addresses, side="right") - 1
        offset = addresses - self.va[at]
        return self.to[at] + offset, offset < self.size_bytes[at]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """What a range translates, ready for many searches."""

    regime: Regime
    mapped: _Spans
    shared: _Spans
    """Tables that are reached again: they lead to the addresses at which they were reached first."""

    def translate(self, vas: ArrayLike) -> tuple[Words, Bools]:
        """The physical address of each 64-bit address, 0 where there is none, and where there is one.

        Tags are taken off as the regime says for data; addresses of the other range have none. Costs a
        binary search each among the segments.
        """
        given = np.asarray(vas, np.uint64)
        wanted = _untagged(self.regime, given.reshape(-1))
        pas, found = self.mapped.find(wanted)
        # A table that is shared may be below another: one round for each level.
        for _ in range(self.regime.start_level, FINAL_LEVEL):
            if not len(self.shared) or found.all():
                break
            lost = np.flatnonzero(~found)
            first, again = self.shared.find(wanted[lost])
            lost = lost[again]
            wanted[lost] = first[again]
            pas[lost], found[lost] = self.mapped.find(wanted[lost])
        # A block can be larger than the output address size, of a leaf whose address is within it.
        found &= pas < np.uint64(1 << self.regime.oasize_bits)
        pas *= found
        return pas.reshape(given.shape), found.reshape(given.shape)


def _untagged(regime: Regime, vas: Words) -> Words:
    """A copy without tags (Regime.va_out_of_range): what is then within the range was before."""
    tag = (0xFF if regime.tbi else 0xF if regime.mtx else 0) << 56
    if regime.va_range is VaRange.LOWER:
        return vas & np.uint64(ones(64) & ~tag)
    return vas | np.uint64(tag)


def segments(leaves: Leaves, *, choices: Choices = _DEFAULT) -> Segments:
    """What leaves translate, for repeated use; `choices` as for `harness.vmsa.walk`.

    Tables that are shared are here too, which are no leaves; and where the Contiguous bit is not honoured,
    leaves whose output address is in range only as it is written.
    """
    regime, entries, odd = leaves.regime, leaves.entries, leaves.anomalies
    if not choices.honour_contiguous:
        beyond = odd.take(odd.of_kind(AnomalyKind.OUTPUT_OUT_OF_RANGE))
        if len(beyond):
            entries = LeafEntries.join([entries, _as_leaves(beyond)]).in_order()
    group_log2 = groups_log2(regime, entries)
    grouped: Bools = group_log2 > entries.size_log2
    usable: Bools = np.full(len(entries), True)
    if not regime.ha:
        usable &= _has(entries.word, Leaf.af.mask)
    if choices.contiguous_faults:
        usable &= ~(grouped & (group_log2 > regime.iasize_bits))
    if choices.nt_faults:
        usable &= ~((entries.level < FINAL_LEVEL) & _has(entries.word, Leaf.nt.mask))
    size_bytes = np.uint64(1) << entries.size_log2.astype(np.uint64)
    pa = entries.pa
    if not choices.honour_contiguous and grouped.any():
        pa = addresses(regime.address_format, entries.word, regime.geometry.granule_log2)
        pa &= ~(size_bytes - np.uint64(1))
    mapped = _Spans(va=entries.va, size_bytes=size_bytes, to=pa)
    return Segments(
        regime=regime,
        mapped=_joined(mapped if usable.all() else mapped.take(usable)),
        shared=_shared(odd.take(odd.of_kind(AnomalyKind.TABLE_SHARED))),
    )


def translate(leaves: Leaves, vas: ArrayLike, *, choices: Choices = _DEFAULT) -> tuple[Words, Bools]:
    """The physical address of each 64-bit address, 0 where there is none, and where there is one.

    `segments`, then `Segments.translate`: keep the former to ask often.
    """
    return segments(leaves, choices=choices).translate(vas)


def _has(word: Words, bit: int) -> Bools:
    return (word & np.uint64(bit)).astype(np.bool_)


def _as_leaves(odd: Anomalies) -> LeafEntries:
    return LeafEntries(
        va=odd.va, pa=odd.pa, word=odd.word, inherited=odd.inherited, level=odd.level, size_log2=odd.size_log2
    )


def _shared(odd: Anomalies) -> _Spans:
    size_bytes = np.uint64(1) << odd.size_log2.astype(np.uint64)
    return _Spans(va=odd.va, size_bytes=size_bytes, to=odd.first_va)


def _joined(spans: _Spans) -> _Spans:
    """Neighbours that go on as one are one."""
    ends, to_ends = spans.va + spans.size_bytes, spans.to + spans.size_bytes
    is_first = np.full(len(spans), True)
    is_first[1:] = (spans.va[1:] != ends[:-1]) | (spans.to[1:] != to_ends[:-1])
    firsts = spans.take(is_first)
    lasts = np.append(is_first[1:], True)[: len(spans)]
    return _Spans(va=firsts.va, size_bytes=ends[lasts] - firsts.va, to=firsts.to)
