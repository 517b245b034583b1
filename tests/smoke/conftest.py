"""Which of these tests run with which kernels, so that each tier of scripts/test has the kernels it needs.

A test that names its kernel itself, by a parameter or by its module's KERNEL, runs where `--granule-kernel`
chooses that kernel, and everywhere when the option is not given. Others take what the option says.
"""

from __future__ import annotations

import pytest

from harness.kernels.catalogue import Catalogue


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of kernels that were not chosen."""
    option: str = config.getoption("--granule-kernel")
    if not option:
        return
    catalogue = Catalogue.load()
    chosen = {kernel.name for word in option.split(",") for kernel in catalogue.expand(word)}
    names = set(catalogue.names)
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (kept if _named(item) & names <= chosen else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def _named(item: pytest.Item) -> set[str]:
    """Kernels that a test names itself."""
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec else ()
    words = [word for value in values for word in (value if isinstance(value, tuple) else (value,))]
    constant = getattr(getattr(item, "module", None), "KERNEL", None)
    return {word for word in (*words, constant) if isinstance(word, str)}
