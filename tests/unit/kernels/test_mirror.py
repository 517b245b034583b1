"""Which mirror is chosen, for hosts set up in several ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.kernels.mirror import INDEX_FORMAT, choose_mirror, host_codename, parse_index_targets

# As apt 2.6 prints them: no value where nothing was fetched, nor ever for SIGNED_BY.
DEBIAN = """\
Debian|http://mirror.invalid/debian|bookworm|main|Packages|http://mirror.invalid/debian/|$(SIGNED_BY)
Debian|http://mirror.invalid/debian|bookworm|main|Translations|http://mirror.invalid/debian/|$(SIGNED_BY)
Debian|http://mirror.invalid/debian|bookworm-updates|main|Packages|http://mirror.invalid/debian/|$(SIGNED_BY)
Debian|http://security.invalid/debian-security|bookworm-security|main|Packages|http://security.invalid/debian-security/|$(SIGNED_BY)
"""
VENDOR = "Vendor|http://vendor.invalid|bookworm|main|Packages|http://vendor.invalid/|$(SIGNED_BY)\n"
NODE = "$(ORIGIN)|http://node.invalid|nodistro|main|Packages|http://node.invalid/|/etc/apt/keyrings/n.gpg\n"
STABLE = "Debian|http://other.invalid/debian|stable|main|Packages|http://other.invalid/debian/|\n"
CDROM = "$(ORIGIN)|cdrom://[Debian 12]|bookworm|main|Packages|cdrom://[Debian 12]/|$(SIGNED_BY)\n"
MIRRORLIST = (
    "$(ORIGIN)|mirror+file:/etc/apt/mirrors/debian.list|bookworm|main|Packages"
    "|mirror+file:/etc/apt/mirrors/debian.list/|$(SIGNED_BY)\n"
)


def unfetched(text: str) -> str:
    """The same host before `apt-get update`: no Release file, so no Origin."""
    return "".join(f"$(ORIGIN)|{line.split('|', 1)[1]}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (DEBIAN, "http://mirror.invalid/debian/"),
        (unfetched(DEBIAN), "http://mirror.invalid/debian/"),
        (VENDOR + DEBIAN, "http://mirror.invalid/debian/"),
        (unfetched(VENDOR + NODE + DEBIAN), "http://mirror.invalid/debian/"),
        (unfetched("\n".join(reversed(DEBIAN.splitlines()))), "http://mirror.invalid/debian/"),
        (CDROM + STABLE, "http://other.invalid/debian/"),
        (STABLE + DEBIAN, "http://mirror.invalid/debian/"),
        (unfetched(NODE + STABLE), "http://other.invalid/debian/"),
        (MIRRORLIST + CDROM, "mirror+file:/etc/apt/mirrors/debian.list/"),
    ],
    ids=[
        "plain",
        "never-updated",
        "vendor-main",
        "vendors-never-updated",
        "security-first",
        "cdrom-and-stable",
        "stable-and-codename",
        "node-and-stable",
        "mirror-list",
    ],
)
def test_the_hosts_own_mirror_is_chosen(text: str, uri: str) -> None:
    """The mirror of the host's own main is found among security, vendors, cdroms and translations."""
    assert choose_mirror(parse_index_targets(text), "bookworm").repo_uri == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        CDROM,
        VENDOR,
        DEBIAN.splitlines()[3],
        "Debian|file:/srv/debian|bookworm|main|Packages|file:/srv/debian/|",
        "Debian|http://x.invalid|bookworm|contrib|Packages|http://x.invalid/|",
    ],
    ids=["none", "cdrom", "vendor", "security", "file", "contrib"],
)
def test_a_host_without_mirror_is_told_what_to_add(text: str) -> None:
    """Without a network source of Debian's main the error says what to add."""
    with pytest.raises(InfraError, match="Add Debian bookworm main"):
        choose_mirror(parse_index_targets(text), "bookworm")


def test_fields_that_apt_does_not_know_are_empty() -> None:
    """`$(NAME)` left in the output means no value; lines of another shape are passed over."""
    (target,) = parse_index_targets(f"W: something\n{NODE}")
    assert (target.origin, target.release, target.signed_by) == ("", "nodistro", "/etc/apt/keyrings/n.gpg")
    assert INDEX_FORMAT.count("|") == NODE.count("|")


@pytest.mark.parametrize(
    ("text", "codename"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "bookworm"),
        ('VERSION_CODENAME="trixie"\n', "trixie"),
        ("ID=debian\n", ""),
    ],
)
def test_codename(tmp_path: Path, text: str, codename: str) -> None:
    """VERSION_CODENAME is read with and without quotes, and may be absent."""
    (tmp_path / "os-release").write_text(text)
    assert host_codename(tmp_path / "os-release") == codename
    assert host_codename(tmp_path / "absent") == ""
