"""Tests of harness.smoke.subject: what is known of a guest's kernel."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.kernel import Kernel
from harness.linux.kconfig import Kconfig
from harness.qemu.machine import Machine
from harness.smoke.subject import Subject
from harness.spec import PageSize

KERNEL = Kernel(
    name="k", image=Path("/k"), page_size=PageSize.K4, release="6.12", sha256="0", origin="made up"
)
CONFIG = Kconfig.parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_N=255\n# CONFIG_OFF is not set\nCONFIG_NO=n\n")


def _subject(config: Kconfig | None) -> Subject:
    return Subject(
        machine=cast(Machine, None), kernel=KERNEL, config=config, page_size=PageSize.K4,
        deadline=Deadline.after(1), command_s=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [("A", "y"), ("B", "m"), ("N", "255"), ("OFF", None), ("NO", None), ("GONE", None)]
)
def test_option(name: str, value: str | None) -> None:
    """An option that is not set is off, whether `.config` says so or leaves it out."""
    assert _subject(CONFIG).option(name) == value


def test_option_of_a_kernel_of_unknown_configuration() -> None:
    """Nothing is known, and nothing is said."""
    assert _subject(None).option("A") is None


def test_a_guest_without_a_way_in() -> None:
    """Who asks for SSH where nobody provided for it is told what there is."""
    with pytest.raises(UsageError, match="serial shell"):
        _ = _subject(None).ssh
