"""What is written of a series: table, page, JSON, mail, and lines as checkpatch has them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.report.series.document import load_series, render_series_json
from harness.report.series.facts import About
from harness.report.series.mail import COLUMNS, LINES, render_mail
from harness.report.series.page import render_page
from harness.report.series.terminal import render_series
from harness.report.series.terse import terse_lines
from harness.series.engine import Engine, SeriesResult
from harness.series.store import Results
from harness.series.values import Built, Variant, Warning_
from harness.spec import PageSize
from tests.unit.series.fakes import K16, K64, Deaf, FakeBuilder, FakeRunner, asked

ABOUT = About(
    base="Debian linux-source-6.12 6.12.1-1",
    series="v2.mbox",
    digest="0123456789abcdef" * 4,
    configuration="trimmed,ptdump",
    compiler="aarch64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0",
    qemu="7.2.22",
    made="2026-01-01T00:00:00+00:00",
)


def result_of(tmp_path: Path, count: int = 5) -> SeriesResult:
    """A series with a build failure at 64K, a check that fails at 16K, documentation and an idle driver."""
    builder = FakeBuilder(broken={3: (PageSize.K64,)}, image=str(tmp_path))
    runner = FakeRunner(lambda step, variant, _run: ("mapping",) if step >= 4 and variant == K16 else ())
    return Engine(
        asked=asked(count, inert=(1,), idle=(2,)),
        builder=builder,
        runner=runner,
        results=Results(tmp_path / "state"),
        listening=Deaf(),
    ).run()


def with_warning(result: SeriesResult, step: int, warning: Warning_) -> SeriesResult:
    """The result with a compiler's warning at one step."""
    units = dict(result.units)
    key = (step, K64)
    built = dataclasses.replace(units[key].built, warnings=(warning,))
    units[key] = dataclasses.replace(units[key], built=built)
    return dataclasses.replace(result, units=units)


def test_table(tmp_path: Path) -> None:
    """Each patch has its verdict by page size, and the first bad ones are named below."""
    text = render_series(result_of(tmp_path), ABOUT, width=140)
    rows = {line.split()[0]: line for line in text.splitlines() if line[:3].strip().isdigit()}
    assert rows["1"].count("nothing to build") == 3
    assert rows["2"].count("built, not exercised") == 3
    assert "new: build" in rows["3"]
    assert "new: mapping" in rows["4"]
    assert "fixed: build" in rows["4"]
    assert "fails since 4: mapping" in rows["5"]
    assert "patch 3 (change 3) at 64K: build (1/1 runs): mm/a.c:3:1: error: no" in text
    assert "patch 4 (change 4) at 16K: mapping (3/3 runs): mapping: wanted right, saw wrong" in text


def test_json_comes_back(tmp_path: Path) -> None:
    """What is read again gives the same table and the same reports."""
    result = result_of(tmp_path)
    path = tmp_path / "series.json"
    path.write_text(render_series_json(result, ABOUT))
    again, about = load_series(path)
    assert again.table() == result.table()
    assert (render_mail(again, about), again.exit_status) == (render_mail(result, ABOUT), 1)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other"}', '{"schema": "granule-series"}'])
def test_json_of_others(tmp_path: Path, text: str) -> None:
    """A file that is no such report is refused."""
    path = tmp_path / "series.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        load_series(path)


def test_json_that_is_damaged(tmp_path: Path) -> None:
    """A field that is missing is told and is no traceback."""
    document = json.loads(render_series_json(result_of(tmp_path), ABOUT))
    del document["kernels"][0]["build"]
    path = tmp_path / "series.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="damaged: KeyError"):
        load_series(path)


@pytest.mark.parametrize("count", [5, 60])
def test_mail_fits(tmp_path: Path, count: int) -> None:
    """However much there is to say: at most 25 lines of 72 columns, in ASCII, with what is new in them."""
    result = result_of(tmp_path, count)
    for step in range(5, count):
        result = with_warning(result, step, Warning_("mm/a.c", step, "ä" * 200))
    text = render_mail(result, ABOUT)
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert text.isascii()
    for words in ("linux-source-6.12 6.12.1-1", "0123456789ab", "gcc", "7.2.22", "mm/a.c:3", "3/3"):
        assert words in text
    assert "Not covered:" in text


def test_mail_of_a_clean_series(tmp_path: Path) -> None:
    """It says that there is nothing new."""
    result = Engine(
        asked=asked(2), builder=FakeBuilder(image=str(tmp_path)), runner=FakeRunner(),
        results=Results(tmp_path / "state"), listening=Deaf(),
    ).run()  # fmt: skip
    assert "New against the base: nothing." in render_mail(result, ABOUT)
    assert "2 pass" in render_mail(result, ABOUT)


def test_warnings_are_told_once_by_the_patch_that_brought_them(tmp_path: Path) -> None:
    """A warning that stays is the first patch's."""
    result = result_of(tmp_path)
    for step in (4, 5):
        result = with_warning(result, step, Warning_("mm/a.c", 7, "unused"))
    assert "patch 4 at 64K: mm/a.c:7: unused" in render_series(result, ABOUT, width=140)
    assert "patch 5 at 64K" not in render_series(result, ABOUT, width=140)


def test_lost_options_and_grown_images(tmp_path: Path) -> None:
    """An option that vanishes is told with its patch; the mail says by how much the Image grew."""
    result = result_of(tmp_path)
    units = dict(result.units)
    for step, size_bytes in ((0, 1000), (5, 1512)):
        built = dataclasses.replace(
            units[step, K64].built, dropped=("OLD", *(("NEW",) if step else ())), image_bytes=size_bytes
        )
        units[step, K64] = dataclasses.replace(units[step, K64], built=built)
    result = dataclasses.replace(result, units=units)
    text = render_series(result, ABOUT, width=140)
    assert "patch 5 at 64K: CONFIG_NEW is lost" in text
    assert "CONFIG_OLD" not in text
    assert "Image +512 bytes" in render_mail(result, ABOUT)


def test_terse(tmp_path: Path) -> None:
    """A line for each finding begins with file and line, and says ERROR or WARNING."""
    result = with_warning(result_of(tmp_path), 4, Warning_("mm/a.c", 7, "unused"))
    assert terse_lines(result) == [
        "mm/a.c:3: ERROR: build fails at 64K (1/1): mm/a.c:3:1: error: no",
        "mm/a.c:0: ERROR: mapping fails at 16K (3/3): mapping: wanted right, saw wrong",
        "mm/a.c:7: WARNING: new at 64K: unused",
    ]


def test_page_escapes(tmp_path: Path) -> None:
    """Nothing of a patch's becomes part of the page's markup, and nothing is fetched from elsewhere."""
    result = result_of(tmp_path)
    patches = (dataclasses.replace(result.asked.patches[0], subject="<script>x</script>"),)
    asked_for = dataclasses.replace(result.asked, patches=(*patches, *result.asked.patches[1:]))
    page = render_page(dataclasses.replace(result, asked=asked_for), ABOUT)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page


def test_base_is_control_in_the_page(tmp_path: Path) -> None:
    """The page has a row for the base and one for each patch, and marks verdicts by more than colour."""
    page = render_page(result_of(tmp_path), ABOUT)
    assert page.count("<tr>") == 7
    assert "the base, as control" in page
    assert '<td class="new">new: build</td>' in page


def test_boot_time_columns() -> None:
    """A kernel that takes its size at boot has columns of its own."""
    assert Variant(PageSize.K4.bytes, True).label == "4K at boot"
    assert Variant.parse("boot-64k") == Variant(65536, True)
    assert Built.from_json(FakeBuilder().build(1, PageSize.K4).as_json()) == FakeBuilder().build(
        1, PageSize.K4
    )
