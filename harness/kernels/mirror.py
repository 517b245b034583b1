"""Which Debian mirror this host uses: read from the host's own apt, so that no address is ours to know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError

__all__ = ["INDEX_FORMAT", "IndexTarget", "choose_mirror", "host_codename", "parse_index_targets"]

_FIELDS = ("ORIGIN", "SITE", "RELEASE", "COMPONENT", "CREATED_BY", "REPO_URI", "SIGNED_BY")

INDEX_FORMAT = "|".join(f"$({name})" for name in _FIELDS)
"""For `apt-get indextargets --format`; apt's doc/acquire-additional-files.md lists the fields."""

_UNUSABLE = re.compile(r"cdrom:|file:|copy:|.*[\s\"\[\]]")
_OTHER_SUITE = re.compile(r".*(-(security|updates|backports|proposed)|/)")
_DEBIAN_SUITES = ("stable", "oldstable", "testing", "unstable", "sid")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexTarget:
    """One index of the host's own apt sources; fields that apt does not know are empty."""

    origin: str
    """Of the Release file: known once lists were fetched."""
    site: str
    release: str
    """The suite or codename as the sources spell it."""
    component: str
    created_by: str
    """`Packages`, `Sources`, `Translations`, …"""
    repo_uri: str
    signed_by: str
    """A keyring's path; apt 2.6 does not tell it."""


def parse_index_targets(text: str) -> tuple[IndexTarget, ...]:
    """From `apt-get indextargets --format INDEX_FORMAT`, which leaves `$(NAME)` where it knows no value."""
    targets = []
    for line in text.splitlines():
        fields = ["" if field.startswith("$(") else field.strip() for field in line.split("|")]
        if len(fields) == len(_FIELDS):
            names = (name.lower() for name in _FIELDS)
            targets.append(IndexTarget(**dict(zip(names, fields, strict=True))))
    return tuple(targets)


def choose_mirror(targets: Iterable[IndexTarget], codename: str) -> IndexTarget:
    """The host's Debian mirror: the index of `main` that looks most like the host's own suite.

    Other archives have a `main` too and name their suites after Debian's. What tells the mirror is its
    Origin, or that the same site has `-updates`. Raises InfraError when there is none.
    """
    targets = tuple(targets)
    updated_sites = {target.site for target in targets if target.release.endswith("-updates")}
    usable = [target for target in targets if _may_be_debian_main(target)]
    if not usable:
        raise InfraError(
            "this host's apt has no network source for Debian's 'main', so there is no mirror to take arm64 "
            f"packages from. Add Debian {codename or 'stable'} main to /etc/apt/sources.list.d, or give a "
            "kernel file."
        )
    return max(
        usable,
        key=lambda target: (
            target.origin == "Debian",
            target.site in updated_sites,
            target.release == codename,
            target.release in _DEBIAN_SUITES,
        ),
    )


def host_codename(os_release: Path = Path("/etc/os-release")) -> str:
    """VERSION_CODENAME of os-release(5); empty where it has none, as in Debian unstable's."""
    try:
        text = os_release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    return found[1] if found else ""


def _may_be_debian_main(target: IndexTarget) -> bool:
    return (
        target.component == "main"
        and target.created_by in ("Packages", "")
        and target.origin in ("Debian", "")
        and bool(target.repo_uri)
        and not _UNUSABLE.match(target.repo_uri)
        and not _OTHER_SUITE.match(target.release)
    )
