"""The private apt, against a fake one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable
from harness.kernels.apt import PrivateApt, parse_package, parse_uris, source_line
from harness.kernels.mirror import parse_index_targets

STANZA = """\
Package: thing
Version: 1:2-3
Architecture: arm64
Depends: thing-6.1 (= 1:2-3), libc6:any (>= 2) | musl, base
SHA256: 0123456789abcdef
Description: a thing
 Package: not this
 .

Package: thing
Version: 1:1-1
"""
TARGETS = "Debian|http://mirror.invalid/d|bookworm|main|Packages|http://mirror.invalid/d/|$(SIGNED_BY)\n"


@pytest.fixture
def archive(fakes: Path) -> Path:
    (fakes / "targets").write_text(TARGETS)
    (fakes / "show-thing").write_text(STANZA)
    (fakes / "tree-thing").mkdir()
    (fakes / "tree-thing/hello").write_text("hello")
    return fakes


def calls(archive: Path, what: str) -> int:
    return sum(what in line for line in (archive / "called").read_text().splitlines())


def fetch(apt: PrivateApt) -> Path:
    return apt.into_cache("packages", lambda again: apt.show("thing", refresh=again), apt.unpacked)


def test_first_stanza_is_the_package() -> None:
    """Only the first stanza counts, continuation lines are no fields, and depends are plain names."""
    package = parse_package(STANZA)
    assert package is not None
    assert (package.name, package.version, package.architecture) == ("thing", "1:2-3", "arm64")
    assert package.depends == ("thing-6.1", "libc6", "base")
    assert package.key == "thing_1-2-3_0123456789ab"


@pytest.mark.parametrize("text", ["", "nonsense", STANZA.replace("SHA256", "MD5")])
def test_incomplete_stanza_is_no_package(text: str) -> None:
    """A stanza without a hash is not used."""
    assert parse_package(text) is None


@pytest.mark.parametrize(
    ("signed_by", "keyrings", "said"),
    [
        ("$(SIGNED_BY)", ["/k/debian.gpg"], " signed-by=/k/debian.gpg]"),
        ("/k/own.gpg", ["/k/debian.gpg"], " signed-by=/k/debian.gpg,/k/own.gpg]"),
        ("/k/debian.gpg", ["/k/debian.gpg"], " signed-by=/k/debian.gpg]"),
        ("-----BEGIN PGP", [], "target=Packages]"),
    ],
)
def test_source_line_names_the_keys(signed_by: str, keyrings: list[str], said: str) -> None:
    """Debian's keyring and the host's own sign; a key block inline is left out."""
    (mirror,) = parse_index_targets(TARGETS.replace("$(SIGNED_BY)", signed_by))
    line = source_line(mirror, "trixie", "arm64", keyrings)
    assert said in line
    assert line.endswith(" http://mirror.invalid/d/ trixie main\n")
    assert "arch=arm64" in line


def test_package_reaches_the_cache(archive: Path, cache: Cache) -> None:
    """A package is downloaded, unpacked and published without its .deb, and progress is in percent."""
    told: list[tuple[int, int | None, str]] = []
    apt = PrivateApt(cache, "trixie", progress=lambda done, total, what: told.append((done, total, what)))
    path = fetch(apt)
    assert (path / "hello").read_text() == "hello"
    assert not list(path.glob("*.deb"))
    assert (50, 100, "downloading thing") in told
    assert fetch(apt) == path
    assert calls(archive, " download ") == 1


def test_apt_files_are_ours(archive: Path, cache: Cache) -> None:
    """Every apt call but the one that reads the host's sources uses our configuration, in the cache."""
    fetch(PrivateApt(cache, "trixie"))
    home = cache.root / "work/apt-trixie-arm64"
    for line in (archive / "called").read_text().splitlines():
        if line.startswith("apt-") and "indextargets" not in line:
            assert f"-c {home}/apt.conf" in line
    conf = (home / "apt.conf").read_text()
    for name in (
        "Dir::State",
        "Dir::State::lists",
        "Dir::Cache",
        "Dir::Etc::sourcelist",
        "Dir::State::status",
    ):
        assert f'{name} "{home}/' in conf
    assert "Dir::Etc::parts" not in conf
    assert (home / "sources.list").stat().st_mode & 0o077 == 0


def test_lists_are_fetched_once_a_day(archive: Path, cache: Cache) -> None:
    """Lists are reused for a day, then fetched again; refresh does not wait for that."""
    apt = PrivateApt(cache, "trixie")
    apt.show("thing")
    apt.show("thing")
    assert calls(archive, " update") == 1
    apt.show("thing", refresh=True)
    assert calls(archive, " update") == 2
    yesterday = time.time() - 90_000
    os.utime(cache.root / "work/apt-trixie-arm64/updated", (yesterday, yesterday))
    apt.show("thing")
    assert calls(archive, " update") == 3


def test_archive_that_moved_on_is_asked_again(archive: Path, cache: Cache) -> None:
    """When the mirror has dropped the version in our lists, the new one is fetched instead."""
    apt = PrivateApt(cache, "trixie")
    apt.show("thing")
    (archive / "gone").touch()
    (archive / "show-thing.next").write_text(STANZA.replace("1:2-3", "1:2-4"))
    assert fetch(apt).name.startswith("thing_1-2-4_")


def test_no_network_is_said(archive: Path, cache: Cache) -> None:
    """A failed update is an InfraError with apt's own reason, and the next try starts afresh."""
    (archive / "offline").touch()
    apt = PrivateApt(cache, "trixie")
    with pytest.raises(InfraError, match="Temporary failure resolving"):
        fetch(apt)
    assert cache.keys("packages") == ()
    (archive / "offline").unlink()
    fetch(apt)


def test_failed_download_is_said(archive: Path, cache: Cache) -> None:
    """A network that goes away in between is an InfraError and publishes nothing."""
    apt = PrivateApt(cache, "trixie")
    apt.show("thing")
    (archive / "offline").touch()
    with pytest.raises(InfraError):
        fetch(apt)
    assert cache.keys("packages") == ()


def test_unknown_package_is_unavailable(archive: Path, cache: Cache) -> None:
    """A package that the suite lacks is KernelUnavailable, naming suite and package."""
    with pytest.raises(KernelUnavailable, match="Debian trixie has no package nothing"):
        PrivateApt(cache, "trixie").show("nothing")


URI = "'http://mirror.invalid/p/{0}_1%3a2_arm64.deb' {0}_1%3a2_arm64.deb 1234 SHA256:{1}"


def test_what_a_closure_is_known_by() -> None:
    """Files and their hashes, in the order of names; other lines, addresses and weak hashes do not count."""
    lines = [
        URI.format("b", "0" * 64),
        "N: a note",
        URI.format("a", "1" * 64) + "\n",
        URI.format("c", "weak"),
    ]
    assert parse_uris(lines) == (f"a_1%3a2_arm64.deb {'1' * 64}", f"b_1%3a2_arm64.deb {'0' * 64}")


def test_closure_and_its_packages(archive: Path, cache: Cache, tmp_path: Path) -> None:
    """What packages depend on is asked of the lists, by SHA-256, and then downloaded."""
    (archive / "uris").write_text(URI.format("thing", "1" * 64) + "\n")
    apt = PrivateApt(cache, "trixie")
    assert apt.closure(["?essential", "thing"]) == (f"thing_1%3a2_arm64.deb {'1' * 64}",)
    assert calls(archive, "Acquire::ForceHash=sha256") == 1
    (tmp_path / "debs").mkdir()
    apt.fetched(["thing"], tmp_path / "debs")
    assert [path.name for path in (tmp_path / "debs").iterdir()] == ["thing_1_arm64.deb"]
    assert calls(archive, " update") == 1


def test_packages_that_cannot_be_had(archive: Path, cache: Cache, tmp_path: Path) -> None:
    """A name that the archive lacks, and one that it does not give, are errors with apt's own words."""
    apt = PrivateApt(cache, "trixie")
    with pytest.raises(InfraError, match="Unable to locate package nothing"):
        apt.closure(["nothing"])
    (archive / "offline").touch()
    (tmp_path / "debs").mkdir()
    with pytest.raises(InfraError, match="404 Not Found"):
        apt.fetched(["thing"], tmp_path / "debs")
