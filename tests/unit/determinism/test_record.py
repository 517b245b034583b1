"""Tests of harness.determinism.record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from harness.determinism.compare import Stream
from harness.determinism.conditions import Conditions
from harness.determinism.record import Fingerprint, Recipe, RunRecord
from harness.determinism.seed import Seed
from harness.errors import UsageError

STREAMS = (Stream(name="console", content=b"boot\n"), Stream(name="shell", content=b"ready\n"))
RECORD = RunRecord(
    conditions=Conditions(seed=Seed(2**64 - 1), icount_shift=3, kaslr=True),
    qemu="QEMU emulator version 7.2",
    kernel_sha256="a" * 64,
    initrd_sha256="b" * 64,
    streams=tuple(Fingerprint.of(stream) for stream in STREAMS),
    runs=2,
    difference="",
    recipe=Recipe(
        kernel="debian-16k",
        kernel_options=("--modules", "/lib/modules/6"),
        checks=("fork", "swap"),
        cmdline="quiet",
        boot_time=False,
        timeout_s=12.5,
        granule="1.0",
    ),
)


def test_round_trip() -> None:
    """A record survives JSON whole, its 64-bit seed included."""
    assert RunRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD


def test_seed_is_text() -> None:
    """The seed is a string: readers that keep numbers as doubles would lose its low bits."""
    assert RECORD.to_json()["seed"] == "18446744073709551615"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("seed", 7),
        ("seed", "-1"),
        ("icount_shift", "0"),
        ("icount_shift", True),
        ("icount_shift", 11),
        ("icount_shift", -1),
        ("kaslr", 1),
        ("runs", None),
        ("difference", None),
        ("recipe", []),
        ("recipe", {"kernel": "k"}),
        ("recipe", {**RECORD.recipe.to_json(), "checks": "fork"}),
        ("recipe", {**RECORD.recipe.to_json(), "checks": [1]}),
        ("recipe", {**RECORD.recipe.to_json(), "checks": ["fork"] * 1001}),
        ("recipe", {**RECORD.recipe.to_json(), "timeout_s": float("nan")}),
        ("recipe", {**RECORD.recipe.to_json(), "timeout_s": 0}),
        ("recipe", {**RECORD.recipe.to_json(), "timeout_s": True}),
        ("recipe", {**RECORD.recipe.to_json(), "boot_time": None}),
        ("qemu", None),
        ("kernel_sha256", "a" * 63),
        ("kernel_sha256", "A" * 64),
        ("initrd_sha256", None),
        ("streams", {}),
        ("streams", [None]),
        ("streams", [{"name": "console", "size_bytes": 0}]),
        ("streams", [{"name": "c" * 41, "size_bytes": 0, "sha256": "a" * 64}]),
        ("streams", [{"name": "console", "size_bytes": -1, "sha256": "a" * 64}]),
        ("streams", [{"name": "console", "size_bytes": 0, "sha256": "a" * 64}] * 17),
    ],
)
def test_refuses(field: str, value: Any) -> None:
    """A record with a field that is wrong is refused, and so is one that lacks it."""
    document = RECORD.to_json()
    document[field] = value
    with pytest.raises(UsageError):
        RunRecord.from_json(document)
    del document[field]
    with pytest.raises(UsageError):
        RunRecord.from_json(document)


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_refuses_no_object(document: object) -> None:
    """What is no object is no record."""
    with pytest.raises(UsageError):
        RunRecord.from_json(document)


def test_fingerprint() -> None:
    """A fingerprint is the length and the sha256 of all the bytes."""
    digest = hashlib.sha256(b"boot\n").hexdigest()
    assert Fingerprint.of(STREAMS[0]) == Fingerprint(name="console", size_bytes=5, sha256=digest)


def test_changed_streams() -> None:
    """A replay that is the same changed nothing; otherwise the streams that differ are named."""
    assert RECORD.changed(STREAMS) == ()
    assert RECORD.changed((STREAMS[0], Stream(name="shell", content=b"READY\n"))) == ("shell",)
    assert RECORD.changed(STREAMS[:1]) == ("shell",)
    assert RECORD.changed((*STREAMS, Stream(name="report", content=b""))) == ("report",)


def test_changed_inputs() -> None:
    """Each input that is not as recorded is named; none when all are."""
    same = {"granule": "1.0", "qemu": RECORD.qemu, "kernel_sha256": "a" * 64, "initrd_sha256": "b" * 64}
    assert RECORD.changed_inputs(**same) == ()
    for name in same:
        assert len(RECORD.changed_inputs(**{**same, name: "other"})) == 1


def test_verified() -> None:
    """Verified is a run that was made twice without a difference, and nothing less."""
    assert RECORD.is_verified
    assert not replace(RECORD, runs=1).is_verified
    assert not replace(RECORD, difference="the console differs").is_verified


def test_no_timeout() -> None:
    """A cell without a time-out of its own comes back as one."""
    plain = replace(RECORD, recipe=replace(RECORD.recipe, timeout_s=None))
    assert RunRecord.from_json(json.loads(json.dumps(plain.to_json()))) == plain
