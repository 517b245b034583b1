"""Tests of harness.guests.debs with packages that this host's dpkg-deb made, and reads back."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.guests.debs import files_of, owners_in, write_plain_deb

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb: apt-get install dpkg")


@pytest.fixture(params=["xz", "gzip"])
def deb(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A package with a file whose length is odd, so that padding is seen."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a thing\n"
    )
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/thing").write_bytes(b"odd")
    target = tmp_path / "thing.deb"
    subprocess.run(
        ["dpkg-deb", f"-Z{request.param}", "--root-owner-group", "-b", str(tree), str(target)],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def _said(*argv: str) -> str:
    return subprocess.run(["dpkg-deb", *argv], check=True, capture_output=True, text=True).stdout


def test_it_is_the_same_package_without_compression(deb: Path, tmp_path: Path) -> None:
    """dpkg-deb reads the same control file and the same contents from it, and its archives are plain."""
    plain = tmp_path / "plain.deb"
    write_plain_deb(deb, plain)
    for option in ("--info", "--contents"):
        wanted, seen = _said(option, str(deb)), _said(option, str(plain))
        # The first lines tell the archive's own size.
        assert wanted.splitlines()[-3:] == seen.splitlines()[-3:]
    members = subprocess.run(["ar", "t", str(plain)], check=True, capture_output=True, text=True).stdout
    assert members.split() == ["debian-binary", "control.tar", "data.tar"]


def test_its_files_are_found(deb: Path, tmp_path: Path) -> None:
    """The archive of files in it is read without dpkg-deb."""
    plain = tmp_path / "plain.deb"
    write_plain_deb(deb, plain)
    with files_of(plain) as archive:
        content = archive.extractfile("./usr/share/thing")
        assert content is not None
        assert content.read() == b"odd"


def test_no_package(tmp_path: Path) -> None:
    """What is no package is an error with dpkg-deb's words, and leaves the cause to be seen."""
    (tmp_path / "not.deb").write_bytes(b"nonsense")
    with pytest.raises(InfraError, match=r"dpkg-deb .* failed with status 2"):
        write_plain_deb(tmp_path / "not.deb", tmp_path / "plain.deb")
    with pytest.raises(InfraError, match="not a Debian package"), files_of(tmp_path / "not.deb"):
        pass


def test_owners() -> None:
    """What is not root's is listed with owner, group and mode; links, which have no mode, are not."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, uid, gid, mode, kind in (
            ("./var/mail", 0, 8, 0o2775, tarfile.DIRTYPE),
            ("./etc/passwd", 0, 0, 0o644, tarfile.REGTYPE),
            ("./var/link", 0, 8, 0o777, tarfile.SYMTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.uid, member.gid, member.mode, member.type = uid, gid, mode, kind
            archive.addfile(member)
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        assert owners_in(archive) == ("0:8 2775 var/mail",)
