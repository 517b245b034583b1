"""Debian packages for arm64 through a private apt, on any Debian host, changing nothing of the host's.

apt gets lists, cache and state of its own under our cache and an empty status file; the host's apt.conf.d (a
proxy, say) and its credentials stay in force. Only the mirror's address comes from the host's sources; the
suite is ours to name. Source: apt.conf(5), sources.list(5), apt-get(8).
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable, ToolMissing
from harness.kernels.longrun import Progress, Ran, quiet, run_lines
from harness.kernels.mirror import (
    INDEX_FORMAT,
    IndexTarget,
    choose_mirror,
    host_codename,
    parse_index_targets,
)

__all__ = ["Package", "PrivateApt", "host_mirror", "parse_package", "parse_uris", "unpack"]

_LISTS_FRESH_S = 86400.0
_KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
# As apt-get prints it (cmdline/apt-get.cc): 'URI' file size hash, the hash chosen by Acquire::ForceHash.
_URI = re.compile(r"'\S+' ([\w.+~%:-]+\.deb) \d+ SHA256:([0-9a-f]{64})")
_INSTALL = ("-o", "Acquire::ForceHash=sha256", "-qq", "-y", "--no-install-recommends", "install")
_LINES_LIMIT = 20_000
_STATUS = re.compile(r"dlstatus:\d+:(\d+)[.:].*")

# Read with -c, after the host's own. #clear drops the host's update hooks, which tidy the host's archive.
# Sandbox::User is root because _apt cannot enter a home directory; signatures and hashes are verified anyway.
_CONF = Template(
    """#clear APT::Architectures;
#clear APT::Update;
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "$home/state";
Dir::State::lists "$home/lists";
Dir::State::status "$home/state/status";
Dir::Cache "$home/cache";
Dir::Log "$home/log";
Dir::Etc::sourcelist "$home/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What the signed lists say of a package."""

    name: str
    version: str
    architecture: str
    sha256: str
    """Of the .deb, in hex; apt compares it with what it downloads."""
    depends: tuple[str, ...] = ()
    """Names only, first alternatives."""

    @property
    def key(self) -> str:
        """Its cache key; Debian's names have no underscore."""
        return f"{self.name}_{self.version}_{self.sha256[:12]}".replace(":", "-")


class _ArchiveMoved(InfraError):
    """The archive no longer has the version that our lists name; they have been fetched anew."""


class PrivateApt:
    """apt-get and apt-cache for one suite and architecture, with all their files in the cache's work area."""

    def __init__(
        self, cache: Cache, suite: str, *, architecture: str = "arm64", progress: Progress = quiet
    ) -> None:
        self._cache = cache
        self._suite = suite
        self._architecture = architecture
        self._progress = progress
        self._name = f"apt-{suite}-{architecture}"

    def show(self, name: str, *, refresh: bool = False) -> Package:
        """What the suite has under that name; fetches the lists when ours are over a day old.

        Raises KernelUnavailable when the suite has no such package, InfraError without network or mirror.
        """
        with self._cache.workdir(self._name, waiting=self._waiting) as home:
            self._update(home, force=refresh)
            return self._show(home, name)

    def into_cache(
        self,
        kind: str,
        find: Callable[[bool], Package],
        build: Callable[[Package, Path], None],
        *,
        refresh: bool = False,
    ) -> Path:
        """The cache entry that `build(package, empty directory)` makes of a package.

        Arguments: `find(refresh)` names the package, and is asked again when the archive has moved on.
        """

        def attempt(refresh: bool) -> Path:
            package = find(refresh)
            label = f"Debian {package.name} {package.version}"
            return self._cache.make(
                kind,
                package.key,
                lambda directory: build(package, directory),
                describe=label,
                waiting=self._waiting,
            )

        try:
            return attempt(refresh)
        except _ArchiveMoved:
            return attempt(True)

    def closure(self, names: Sequence[str], *, refresh: bool = False) -> tuple[str, ...]:
        """File names of packages and of all that they depend on, each with the SHA-256 of its content.

        `names` may be patterns of apt's (apt-patterns(7)), such as `?essential`. Raises InfraError with apt's
        reason when there is no such package, or no way to satisfy a dependency.
        """
        with self._cache.workdir(self._name, waiting=self._waiting) as home:
            self._update(home, force=refresh)
            said: list[str] = []
            ran = self._run(home, [*_INSTALL, "--print-uris", *names], _keeping(said), home)
        files = parse_uris(said)
        if ran.status != 0 or not files:
            raise InfraError(
                f"Debian {self._suite} cannot give {', '.join(names)} for {self._architecture}: apt-get "
                f"said: {ran.said}"
            )
        return files

    def fetched(self, names: Sequence[str], into: Path) -> None:
        """Download what `closure` names into an empty directory; apt verifies it against the signed lists.

        Raises InfraError with apt's reason.
        """
        with self._cache.workdir(self._name, waiting=self._waiting) as home:
            self._update(home)
            (into / "partial").mkdir()
            self._progress(0, None, "downloading packages")
            words = ["-o", f"Dir::Cache::archives={into}", *_INSTALL, "--download-only", *names]
            ran = self._run(home, words, lambda _line: False, home)
            (into / "partial").rmdir()
        (into / "lock").unlink(missing_ok=True)
        if ran.status != 0:
            raise InfraError(f"could not download Debian's packages: apt-get said: {ran.said}")

    def unpacked(self, package: Package, into: Path) -> None:
        """Download the package, verified by apt against the signed lists, and unpack it into `into`."""
        with self._cache.workdir(self._name, waiting=self._waiting) as home:
            self._update(home)
            ran = self._download(home, package, into)
            if ran.status != 0:
                self._update(home, force=True)
                newest = self._show(home, package.name)
                if newest != package:
                    raise _ArchiveMoved(
                        f"Debian {self._suite} now has {package.name} {newest.version} in place of "
                        f"{package.version}; run the command again"
                    )
        debs = sorted(into.glob("*.deb"))
        if ran.status != 0 or len(debs) != 1:
            raise InfraError(f"could not download {package.name} {package.version}: apt-get said: {ran.said}")
        self._progress(0, None, f"unpacking {package.name}")
        unpack(debs[0], into)

    def _waiting(self, what: str) -> None:
        self._progress(0, None, what)

    def _download(self, home: Path, package: Package, into: Path) -> Ran:
        what = f"downloading {package.name}"

        def on_line(line: str) -> bool:
            # APT::Status-Fd, apt's README.progress-reporting: dlstatus:item:percent:description
            found = _STATUS.fullmatch(line)
            if found is not None:
                self._progress(min(100, int(found[1])), 100, what)
            return found is not None

        self._progress(0, 100, what)
        asked = f"{package.name}={package.version}"
        return self._run(home, ["-qq", "-o", "APT::Status-Fd=1", "download", asked], on_line, into)

    def _update(self, home: Path, *, force: bool = False) -> None:
        """Fetch the lists, unless those here are less than a day old."""
        stamp = home / "updated"
        self._configure(home)
        if not force and stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < _LISTS_FRESH_S:
            return
        stamp.unlink(missing_ok=True)
        sources = home / "sources.list"
        sources.touch(mode=0o600)  # the mirror's address may carry credentials
        sources.write_text(self._source_line(), encoding="utf-8")
        self._progress(0, None, f"fetching Debian {self._suite}'s list of packages")
        ran = self._run(home, ["-q", "update"], lambda _line: False, home)
        if ran.status != 0:
            raise InfraError(
                f"could not fetch the list of arm64 packages in Debian {self._suite}: apt-get said: "
                f"{ran.said}. Is the network up, and does `apt-get update` work here? With --offline granule "
                "uses what is cached."
            )
        stamp.touch()

    def _configure(self, home: Path) -> None:
        if re.search(r'["\n]', str(home)):
            raise InfraError(
                f"apt cannot use the path {home}: set GRANULE_CACHE to a directory without quotes"
            )
        for directory in ("state", "lists/partial", "cache/archives/partial", "log"):
            (home / directory).mkdir(parents=True, exist_ok=True)
        (home / "state/status").touch()
        conf = _CONF.substitute(architecture=self._architecture, home=home)
        (home / "apt.conf").write_text(conf, encoding="utf-8")

    def _source_line(self) -> str:
        mirror = host_mirror()
        keyrings = [str(path) for name in _KEYRINGS if (path := Path("/usr/share/keyrings") / name).is_file()]
        return source_line(mirror, self._suite, self._architecture, keyrings)

    def _show(self, home: Path, name: str) -> Package:
        argv = ["apt-cache", "-c", str(home / "apt.conf"), "show", "--no-all-versions", name]
        package = parse_package(_capture(argv))
        if package is None or package.name != name:
            raise KernelUnavailable(
                f"Debian {self._suite} has no package {name} for {self._architecture}: the catalogue may be "
                "ahead of the archive, or behind it"
            )
        return package

    def _run(self, home: Path, arguments: list[str], on_line: Callable[[str], bool], cwd: Path) -> Ran:
        argv = ["apt-get", "-c", str(home / "apt.conf"), *arguments]
        return run_lines(argv, on_line, package="apt", cwd=cwd)


def host_mirror() -> IndexTarget:
    """The Debian mirror that this host's apt sources name, without fetching anything.

    Raises InfraError where they name none, ToolMissing without apt.
    """
    return choose_mirror(_host_targets(), host_codename())


def source_line(mirror: IndexTarget, suite: str, architecture: str, keyrings: list[str]) -> str:
    """The one line of our sources.list: the host's mirror, our suite, Debian's keys and the host's own."""
    if re.fullmatch(r"/[^\s,\]]+", mirror.signed_by) and mirror.signed_by not in keyrings:
        keyrings = [*keyrings, mirror.signed_by]
    signed = f" signed-by={','.join(keyrings)}" if keyrings else ""
    return f"deb [arch={architecture} target=Packages{signed}] {mirror.repo_uri} {suite} main\n"


def parse_uris(lines: Iterable[str]) -> tuple[str, ...]:
    """`name_version_arch.deb SHA256` of each file that `apt-get --print-uris` names, sorted."""
    found = (_URI.fullmatch(line.strip()) for line in lines)
    return tuple(sorted(f"{match[1]} {match[2]}" for match in found if match is not None))


def _keeping(lines: list[str]) -> Callable[[str], bool]:
    def keep(line: str) -> bool:
        if len(lines) < _LINES_LIMIT:
            lines.append(line)
        return _URI.fullmatch(line.strip()) is not None

    return keep


def parse_package(stanza: str) -> Package | None:
    """From the first stanza that `apt-cache show` prints; None where a field that we need is absent."""
    fields: dict[str, str] = {}
    for line in stanza.split("\n\n", 1)[0].splitlines():
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields[name.lower()] = value.strip()
    relations = [relation.strip() for relation in fields.get("depends", "").split(",")]
    try:
        return Package(
            name=fields["package"],
            version=fields["version"],
            architecture=fields["architecture"],
            sha256=fields["sha256"],
            depends=tuple(re.split(r"[\s(:|]", relation)[0] for relation in relations if relation),
        )
    except KeyError:
        return None


def unpack(deb: Path, into: Path) -> None:
    """Unpack a package's files and remove the .deb; raises InfraError with what dpkg-deb said."""
    ran = run_lines(["dpkg-deb", "-x", str(deb), str(into)], lambda _line: False, package="dpkg")
    if ran.status != 0:
        raise InfraError(f"could not unpack {deb.name}: dpkg-deb said: {ran.said}")
    deb.unlink()


def _host_targets() -> tuple[IndexTarget, ...]:
    """The host's indices; --no-release-info adds those whose lists were never fetched, without Origin."""
    argv = ["apt-get", "indextargets", "--format", INDEX_FORMAT]
    return parse_index_targets(_capture(argv)) + parse_index_targets(_capture([*argv, "--no-release-info"]))


def _capture(argv: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        ran = subprocess.run(
            argv, capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0], package="apt") from None
    return ran.stdout.decode("utf-8", "replace")
