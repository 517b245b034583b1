"""One place to ask for a kernel, whatever it is: a name of the catalogue, a file, a build tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from harness.cache import Cache
from harness.errors import UsageError
from harness.kernels.catalogue import Catalogue, CatalogueKernel, SourceKind
from harness.kernels.combine import CombinedKernels
from harness.kernels.copied import shown
from harness.kernels.debian import DebianKernels
from harness.kernels.file import Beside, kernel_from_file, kernel_from_tree
from harness.kernels.kbuild.making import Made
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.package import kernel_from_package, package_format
from harness.kernels.record import find_published
from harness.kernels.source import SourceKernels
from harness.kernels.trees.origin import SourceTree, find_tree
from harness.kernels.trees.patches import Patch
from harness.spec import PageSize

__all__ = ["KernelRow", "KernelState", "KernelStore", "is_path"]


class KernelState(Enum):
    """Whether a kernel of the catalogue can be had at once."""

    CACHED = "cached"
    NOT_FETCHED = "not fetched"
    NOT_BUILT = "not built"
    NOT_COMBINED = "not combined"

    @property
    def is_ready(self) -> bool:
        """True where neither network nor compiler is needed."""
        return self is KernelState.CACHED


_ABSENT = {
    SourceKind.DEBIAN: KernelState.NOT_FETCHED,
    SourceKind.BUILD: KernelState.NOT_BUILT,
    SourceKind.COMBINE: KernelState.NOT_COMBINED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """A line of `granule kernels list`."""

    name: str
    page_size: PageSize | None
    """None for a boot-time kernel."""
    state: KernelState
    purpose: str
    release: str = ""
    """Empty until it is cached, like what follows."""
    origin: str = ""
    sha256: str = ""
    size_bytes: int = 0
    """Of the Image."""


class KernelStore:
    """The kernels that can be run.

    Arguments: `offline`, take only what is in the cache; `progress`, told of downloads and builds;
    `catalogue`, ours by default.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        offline: bool = False,
        progress: Progress = quiet,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._cache = cache
        self._offline = offline
        self._progress = progress
        self._wanted = ""
        self.catalogue = catalogue or Catalogue.load()
        self._source = SourceKernels(cache, self.catalogue, progress=self._tell)
        self._combined = CombinedKernels(
            cache,
            find=lambda name: self._find(self.catalogue.find(name)),
            get=lambda name, refresh: self.get(name, refresh=refresh),
            progress=self._tell,
        )

    def get(self, name: str, *, beside: Beside | None = None, refresh: bool = False) -> Kernel:
        """The kernel of that name, fetched or built when the cache lacks it, or the one in that file or tree.

        Arguments: `name`, a catalogue name, or a path (with '/' in it, or of an existing file); `beside`,
        what goes with a path; `refresh`, look for a newer one in the archive. Raises UsageError for an
        unknown name or an unsuitable file, KernelUnavailable, InfraError.
        """
        if is_path(name, self.catalogue):
            path = _path(name)
            made = find_published(self._cache, path) if beside in (None, Beside()) else None
            if made is not None:
                return made
            if _asked(path, path.is_dir):
                return kernel_from_tree(self._cache, path, beside)
            kind = package_format(path)
            if kind is not None:
                return kernel_from_package(self._cache, path, kind, beside)
            return kernel_from_file(self._cache, path, beside)
        if beside is not None and beside != Beside():
            raise UsageError(
                f"--modules, --initrd, --vmlinux, --config and --cmdline go with a kernel file, "
                f"not with '{name}'"
            )
        wanted = self.catalogue.find(name)
        if wanted.source.is_combined:
            return self._combined.get(wanted, refresh=refresh)
        self._wanted = name
        if wanted.source.is_built:
            return self._source.get(wanted, offline=self._offline, refresh=refresh)
        kernels = self._debian(wanted)
        return kernels.get(wanted.package, wanted.name, offline=self._offline, refresh=refresh)

    def build_tree(
        self, name: str, tree: Path | str, series: Sequence[Patch] = (), *, keep_going: bool = False
    ) -> Made:
        """The user's tree built with the fragments of `name`; see SourceKernels.build_tree."""
        wanted = self.catalogue.find(name)
        if not wanted.source.is_built:
            built = ", ".join(kernel.name for kernel in self.catalogue.kernels if kernel.source.is_built)
            kind = "combined" if wanted.source.is_combined else "packaged"
            raise UsageError(f"{name} is a {kind} kernel; a tree is built like one of: {built}")
        self._wanted = name
        return self._source.build_tree(wanted, tree, series, keep_going=keep_going)

    def source_of(self, name: str) -> SourceTree:
        """The source that a kernel of the catalogue was built from, fetched when the cache lacks it.

        Of Debian's packaged kernels it is the linux-source package of their version. Raises UsageError for a
        kernel file, whose source nobody here knows, KernelUnavailable, InfraError.
        """
        if is_path(name, self.catalogue):
            raise UsageError(
                f"{shown(Path(name))} is a kernel file, which does not say what it was built from: give its "
                "source with --tree"
            )
        wanted = self.catalogue.find(name)
        if wanted.source.is_combined:
            return self.source_of(wanted.members[0])
        package = wanted.package
        if not wanted.source.is_built:
            package = "linux-source-" + ".".join(self.get(name).release.split(".")[:2])
        self._wanted = name
        return self._source.debian_source(package, wanted.suite, offline=self._offline)

    def tree(self, text: str) -> SourceTree:
        """A source tree of the user's, as find_tree takes it."""
        return find_tree(self._cache, text, progress=self._progress)

    def expand(self, name: str) -> tuple[str, ...]:
        """The names that `name` stands for: a family's kernels (`trimmed`), else itself.

        Raises UsageError for what is neither in the catalogue nor a path.
        """
        if is_path(name, self.catalogue):
            return (name,)
        return tuple(kernel.name for kernel in self.catalogue.expand(name))

    def available(self, name: str) -> bool:
        """True where `get` needs neither network nor kernel build; raises UsageError for an unknown name.

        A combined kernel is available when its members are: putting it together takes a second.
        """
        if is_path(name, self.catalogue):
            path = _path(name)
            return _asked(path, path.exists)
        wanted = self.catalogue.find(name)
        if wanted.source.is_combined:
            return self._combined.members(wanted) is not None
        return self._find(wanted) is not None

    def list(self) -> tuple[KernelRow, ...]:
        """A row for each kernel of the catalogue, without network."""
        return tuple(self._row(wanted) for wanted in self.catalogue.kernels)

    def _row(self, wanted: CatalogueKernel) -> KernelRow:
        kernel = self._find(wanted)
        if kernel is None:
            state = _ABSENT[wanted.source]
            return KernelRow(
                name=wanted.name, page_size=wanted.page_size, state=state, purpose=wanted.purpose
            )
        return KernelRow(
            name=wanted.name,
            page_size=kernel.page_size,
            state=KernelState.CACHED,
            purpose=wanted.purpose,
            release=kernel.release,
            origin=kernel.origin,
            sha256=kernel.sha256,
            size_bytes=kernel.image.stat().st_size,
        )

    def _find(self, wanted: CatalogueKernel) -> Kernel | None:
        if wanted.source.is_combined:
            return self._combined.find(wanted)
        if wanted.source.is_built:
            return self._source.find(wanted)
        return self._debian(wanted).find(wanted.package, wanted.name)

    def _debian(self, wanted: CatalogueKernel) -> DebianKernels:
        return DebianKernels(self._cache, wanted.suite, progress=self._tell)

    def _tell(self, done: int, total: int | None, what: str) -> None:
        self._progress(done, total, f"{self._wanted}: {what}")


def is_path(name: str, catalogue: Catalogue) -> bool:
    """True where `name` means a file: it has a '/', or is no name of the catalogue and exists."""
    if "/" in name:
        return True
    known = name in catalogue.names or catalogue.family(name)
    if known or not name:
        return False
    try:
        return Path(name).exists()
    except OSError:  # a name too long for a file is no file's
        return False


def _path(name: str) -> Path:
    """The path that a user wrote; raises UsageError for `~NAME` where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(
            f"the kernel '{shown(name)}' begins with the home directory of a user whom this machine does not "
            "know; write ./~… for a file whose name begins with ~"
        ) from None


def _asked(path: Path, question: Callable[[], bool]) -> bool:
    """The answer of Path.exists or is_dir; raises UsageError where the path cannot be looked at."""
    try:
        return question()
    except OSError as error:
        raise UsageError(f"the kernel {shown(path)} cannot be looked at: {error.strerror}") from error
