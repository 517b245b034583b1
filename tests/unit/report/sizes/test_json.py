"""A comparison for programs."""

from __future__ import annotations

import json

from harness.report.sizes.comparison import Comparison
from harness.report.sizes.json import render_json


def test_document(comparison: Comparison) -> None:
    """Sizes in bytes, percentages by column, and each guest with what it is held against."""
    found = json.loads(render_json(comparison))
    assert (found["schema"], found["base"], found["parts_by"]) == ("granule-sizes", "base-4k", "sections")
    base, _, boot = found["kernels"]
    assert base["image_bytes"] == 1000 * 1024
    assert base["compressed_bytes"] == {"gzip -9": 400 * 1024, "zstd -19": 390 * 1024}
    assert base["sections"] == {"text_bytes": 512000, "data_bytes": 256000, "bss_bytes": 5120}
    assert (base["gaps_bytes"], base["percent"]) == (256000, {})
    assert (boot["percent"]["Image"], boot["percent"]["bss"], boot["page_size_bytes"]) == (3.9, 0.0, None)
    last = found["guests"][-1]
    assert (last["lost_kib"], last["against"], last["lost_more_kib"]) == (900, "base-16k", 100)
    assert last["memory_line"]["init_kib"] == 5


def test_same_bytes(comparison: Comparison) -> None:
    """The same comparison gives the same bytes, in ASCII."""
    assert render_json(comparison) == render_json(comparison)
    assert render_json(comparison).isascii()
