"""The cells that a suite is made of, without a guest."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import UsageError
from harness.matrix.cell import Request
from harness.series import running
from harness.series.running import CellRunner
from harness.series.values import Built, Outlook, Variant
from harness.spec import PageSize, Platform
from harness.verdict import MatrixResult
from tests.unit.series.fakes import K16, K64, SUITE

BUILT = Built(outlook=Outlook.BUILT, image="/cache/Image", digest="abc")


def runner(version: str = "7.2") -> CellRunner:
    """One that never starts anything."""
    parts: Any = SimpleNamespace(qemu=SimpleNamespace(version_text=version))
    store: Any = None
    return CellRunner(
        store=store, bench=parts, request=Request(cpus=("max",)),
        listener=lambda _count: contextlib.nullcontext(parts), jobs=1,
    )  # fmt: skip


def test_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel, the page size, the platform and the checks are the suite's; the rest is what was asked."""
    seen: list[Request] = []

    def plan(request: Request, _store: object, _qemu: object) -> Any:
        seen.append(request)
        return SimpleNamespace(cells=(1,))

    monkeypatch.setattr(running, "plan", plan)
    monkeypatch.setattr(running, "run_matrix", lambda *_given, **_more: MatrixResult(expected=1, cells=()))
    runner().run(BUILT, K16, SUITE)
    runner().run(BUILT, Variant(PageSize.K4.bytes, True), SUITE)
    assert [request.page_sizes for request in seen] == [(PageSize.K16,), (PageSize.K4,)]
    assert [request.boot_time for request in seen] == [None, True]
    assert seen[0].kernels == ("/cache/Image",)
    assert seen[0].platforms == (Platform.VIRT,)
    assert seen[0].checks == SUITE.checks
    assert seen[0].cpus == ("max",)


def test_a_kernel_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no cell and no failure, and the reason is kept."""

    def plan(*_given: object) -> None:
        raise UsageError("nothing to run: it is built without CONFIG_HYPERV")

    monkeypatch.setattr(running, "plan", plan)
    result = runner().run(BUILT, K16, SUITE)
    assert result.cells == ()
    assert "without CONFIG_HYPERV" in result.skipped[0].reason


def test_keys() -> None:
    """Another kernel, page size or QEMU is another result; the same is the same."""
    key = runner().key(BUILT, K16, SUITE)
    assert key == runner().key(BUILT, K16, SUITE)
    assert key != runner().key(BUILT, K64, SUITE)
    assert key != runner("8.0").key(BUILT, K16, SUITE)
    assert key != runner().key(Built(outlook=Outlook.BUILT, digest="def"), K16, SUITE)
