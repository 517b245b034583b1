"""Tests of harness.channel.transcript."""

from __future__ import annotations

from harness.channel.transcript import Transcript


def test_short_output_is_kept_whole() -> None:
    """What fits is kept byte for byte."""
    transcript = Transcript(limit_bytes=100)
    transcript.append(b"abc")
    transcript.append(b"\xff\x00def")
    assert transcript.content() == b"abc\xff\x00def"
    assert transcript.tail(3) == b"def"


def test_a_flood_keeps_both_ends_and_says_what_is_missing() -> None:
    """Of megabytes the beginning and the end stay, within the limit, and the gap is counted."""
    transcript = Transcript(limit_bytes=1000)
    data = b"".join(b"line %06d\n" % number for number in range(10_000))
    for start in range(0, len(data), 777):
        transcript.append(data[start : start + 777])
    kept = transcript.content()
    assert kept.startswith(b"line 000000\n")
    assert kept.endswith(b"line 009999\n")
    assert len(kept) < 3000
    head, _, rest = kept.partition(b"\n[")
    count, _, tail = rest.partition(b" bytes not kept]\n")
    assert len(head) + int(count) + len(tail) == len(data)
