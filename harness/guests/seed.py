"""The seed disk: what a user's image is given so that something in it answers us.

An ISO 9660 image labelled `cidata`, as cloud-init's NoCloud source looks for it (cloud-init documentation,
"NoCloud"): `user-data` starts the agent, which lies beside it. Images without cloud-init whose systemd knows
credentials (256 and later: systemd.system-credentials(7), `systemd.extra-unit.*`) get a unit that starts it.
"""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import pycdlib

from harness.build.programs import AGENT
from harness.cache import Cache
from harness.paths import data_dir

__all__ = ["SEED_LABEL", "make_seed", "smbios_strings"]

SEED_LABEL = "cidata"
FORMAT = 1  # part of every key: raise it when this file lays the disk out differently
SEED = "seed.iso"
UNIT = "granule-seed.service"
WANTS = f"[Unit]\nWants={UNIT}\n"


def make_seed(cache: Cache, programs: Path) -> Path:
    """The disk in the cache. `programs` is what `harness.build.programs` made."""
    source = data_dir("guests") / "image"
    files = {
        "meta-data": b"instance-id: granule\n",
        "user-data": (source / "user-data").read_bytes(),
        "start.sh": (source / "start.sh").read_bytes(),
        AGENT: (programs / AGENT).read_bytes(),
    }
    digest = hashlib.sha256(repr((FORMAT, sorted(files.items()))).encode()).hexdigest()[:32]

    def build(directory: Path) -> None:
        image = pycdlib.PyCdlib()
        image.new(vol_ident=SEED_LABEL, rock_ridge="1.09", joliet=3)
        for number, (name, content) in enumerate(sorted(files.items())):
            image.add_fp(
                io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}"
            )
        image.write(str(directory / SEED))
        image.close()

    return cache.make("programs", digest, build, describe="seed disk of a user's image") / SEED


def smbios_strings() -> tuple[str, ...]:
    """What systemd reads from the firmware's tables (type 11, OEM strings)."""
    unit = base64.b64encode((data_dir("guests") / "image" / UNIT).read_bytes()).decode()
    wants = base64.b64encode(WANTS.encode()).decode()
    return (
        f"io.systemd.credential.binary:systemd.extra-unit.{UNIT}={unit}",
        f"io.systemd.credential.binary:systemd.unit-dropin.sysinit.target~granule={wants}",
    )
