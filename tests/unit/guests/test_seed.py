"""What makes a user's image answer: the seed disk, and systemd's credentials."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pycdlib
import pytest

from harness.cache import Cache
from harness.guests.firmware import firmware_found_nothing
from harness.guests.seed import SEED_LABEL, make_seed, smbios_strings


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """The seed disk with an agent of no use."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "granule-agent").write_bytes(b"\x7fELF agent")
    return make_seed(Cache(tmp_path / "cache"), programs)


def test_cloud_init_finds_it_and_what_is_in_it(seed: Path) -> None:
    """Its label is the one that NoCloud looks for; under their own names lie user-data, meta-data and the agent."""
    image = pycdlib.PyCdlib()
    image.open(str(seed))
    try:
        assert image.pvd.volume_identifier.decode().strip() == SEED_LABEL
        found = {}
        for name in ("user-data", "meta-data", "start.sh", "granule-agent"):
            content = io.BytesIO()
            image.get_file_from_iso_fp(content, rr_path=f"/{name}")
            found[name] = content.getvalue()
    finally:
        image.close()
    assert found["granule-agent"] == b"\x7fELF agent"
    assert found["user-data"].startswith(b"#cloud-config\n")
    assert b"instance-id" in found["meta-data"]


def test_credentials_are_units() -> None:
    """A unit that starts the agent from the seed disk, and what has it started; no comma, which QEMU would take."""
    decoded = {}
    for text in smbios_strings():
        assert "," not in text
        name, _, content = text.removeprefix("io.systemd.credential.binary:").partition("=")
        decoded[name] = base64.b64decode(content).decode()
    assert f"LABEL={SEED_LABEL}" in decoded["systemd.extra-unit.granule-seed.service"]
    assert "Wants=granule-seed.service" in decoded["systemd.unit-dropin.sysinit.target~granule"]


def test_firmware_that_found_nothing() -> None:
    """It says so, or goes on to the network; one that starts something says another thing."""
    assert firmware_found_nothing(b"...BdsDxe: No bootable option or device was found.\r\n")
    assert firmware_found_nothing(b"\r\n>>Start PXE over IPv4.")
    assert not firmware_found_nothing(b"BdsDxe: starting Boot0001 \"UEFI Misc Device\"\r\nGRUB loading")
