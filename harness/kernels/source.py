"""Kernels built from source: Debian's linux-source packages, or a tree of the user's, plus fragments."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable, UsageError
from harness.kernels.apt import Package, PrivateApt
from harness.kernels.catalogue import Catalogue, CatalogueKernel
from harness.kernels.kbuild import Build, Fragment, check_tree, jobs_here
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet, run_lines
from harness.kernels.record import KIND, Record, describe_image, find_made, sha256_of

__all__ = ["SourceKernels", "SourceTree"]

_SOURCES = "sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """A kernel tree to build from."""

    path: Path
    id: str
    """Names its build directories: package and version, or a hash of the path."""
    origin: str
    """One line for people."""
    is_fixed: bool
    """True where it never changes, so that a build of it need not be tried again."""


class SourceKernels:
    """Builds the catalogue's kernels that are built.

    Arguments: `catalogue`, where the fragments lie; `progress`, told of downloads and of each compiled file.
    """

    def __init__(self, cache: Cache, catalogue: Catalogue, *, progress: Progress = quiet) -> None:
        self._cache = cache
        self._catalogue = catalogue
        self._progress = progress

    def find(self, wanted: CatalogueKernel) -> Kernel | None:
        """The newest build of those fragments from that package, whatever compiler made it."""
        found = find_made(self._cache, self._recipe(wanted))
        return None if found is None else found[1].kernel(found[0], wanted.name)

    def get(self, wanted: CatalogueKernel, *, offline: bool = False, refresh: bool = False) -> Kernel:
        """The kernel in the cache, built when absent or when `refresh` asks for the archive's newest source.

        Raises KernelUnavailable when it is not cached and `offline` is set without sources, UsageError when a
        fragment's option is lost, InfraError when the build fails, ToolMissing.
        """
        kernel = None if refresh else self.find(wanted)
        if kernel is not None:
            return kernel
        toolchain = _toolchain()
        tree = self._debian_source(wanted, offline=offline, refresh=refresh)
        return self._build(wanted, tree, toolchain)

    def build_tree(self, wanted: CatalogueKernel, tree: Path) -> Kernel:
        """Build the user's tree with the fragments of `wanted`; always runs make, which is incremental.

        The tree is not written to. Raises UsageError where it is no kernel tree or was built in place.
        """
        path = tree.resolve()
        check_tree(path)
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        source = SourceTree(path=path, id=f"tree-{digest}", origin=str(path), is_fixed=False)
        return self._build(wanted, source, _toolchain())

    def _build(self, wanted: CatalogueKernel, tree: SourceTree, toolchain: Toolchain) -> Kernel:
        fragments = self._fragments(wanted)
        name = f"build-{tree.id}-{'-'.join(wanted.fragments)}"
        with self._cache.workdir(name, waiting=self._waiting) as output:
            key = _key(tree, fragments, toolchain)
            path = self._cache.find(KIND, key) if tree.is_fixed else None
            if path is None:
                build = Build(
                    source=tree.path,
                    output=output,
                    toolchain=toolchain,
                    ccache_dir=self._cache.shared_workdir("ccache"),
                    jobs=jobs_here(),
                    expected_steps=wanted.steps,
                    progress=self._progress,
                )
                build.configure(fragments)
                build.compile()
                if not tree.is_fixed:
                    key = f"image-{sha256_of(output / 'arch/arm64/boot/Image')}"
                path = self._cache.make(
                    KIND,
                    key,
                    lambda directory: self._publish(build, wanted, tree, directory),
                    describe=f"{wanted.name} from {tree.origin}",
                    waiting=self._waiting,
                )
            record = Record.read(path)
        if record is None:
            raise InfraError(
                f"{path} has no provenance; remove it with `granule cache prune` and build again"
            )
        return record.kernel(path, wanted.name)

    def _publish(self, build: Build, wanted: CatalogueKernel, tree: SourceTree, directory: Path) -> None:
        shutil.copyfile(build.output / "arch/arm64/boot/Image", directory / "Image")
        shutil.copyfile(build.output / ".config", directory / "config")
        shutil.copyfile(build.output / "vmlinux", directory / "vmlinux")
        image, release, sha256 = describe_image(directory / "Image")
        page_size = image.header.page_size
        if page_size is not wanted.page_size:
            has, asked = (size.label if size else "unspecified" for size in (page_size, wanted.page_size))
            raise InfraError(
                f"{wanted.name} was built with {has} pages in its Image header, not {asked} as the catalogue "
                "says"
            )
        if build.has_modules:
            build.install_modules(directory)
            if not (directory / "lib/modules" / release).is_dir():
                raise InfraError(f"{wanted.name} was built, but no modules were installed for {release}")
        Record(
            origin=f"{release} built from {tree.origin} with {', '.join(wanted.fragments)}",
            release=release,
            image_sha256=sha256,
            page_size_bytes=None if page_size is None else page_size.bytes,
            recipe=self._recipe(wanted)
            if tree.is_fixed
            else f"tree {tree.path} {' '.join(wanted.fragments)}",
            details={
                "source": tree.origin,
                "compiler": build.toolchain.version,
                "fragments": " ".join(wanted.fragments),
            },
        ).write(directory)

    def _debian_source(self, wanted: CatalogueKernel, *, offline: bool, refresh: bool) -> SourceTree:
        key = None
        if offline or not refresh:
            key = next(
                (key for key in self._cache.keys(_SOURCES) if key.startswith(f"{wanted.package}_")), None
            )
        path = None if key is None else self._cache.find(_SOURCES, key)
        if path is None:
            if offline:
                raise KernelUnavailable(
                    f"the kernel {wanted.name} is not built and its source is not in the cache "
                    f"{self._cache.root}; --offline forbids fetching it. Run `granule kernels fetch "
                    f"{wanted.name}` with a network."
                )
            apt = PrivateApt(self._cache, wanted.suite, progress=self._progress)
            path = apt.into_cache(
                _SOURCES,
                lambda again: apt.show(wanted.package, refresh=again),
                lambda package, directory: self._fetch(apt, package, directory),
                refresh=refresh,
            )
        name, version = path.name.split("_")[:2]
        return SourceTree(path=path / "tree", id=path.name, origin=f"Debian {name} {version}", is_fixed=True)

    def _fetch(self, apt: PrivateApt, package: Package, directory: Path) -> None:
        (directory / "deb").mkdir()
        apt.unpacked(package, directory / "deb")
        archives = list((directory / "deb/usr/src").glob("linux-source-*.tar.xz"))
        if len(archives) != 1:
            raise InfraError(
                f"{package.name} is not laid out as a source package: wanted one linux-source tar.xz"
            )
        tree = directory / "tree"
        tree.mkdir()
        self._progress(0, None, f"unpacking {archives[0].name}")
        argv = ["tar", "-xf", str(archives[0]), "-C", str(tree), "--strip-components=1", "--no-same-owner"]
        ran = run_lines(argv, lambda _line: False, package="tar xz-utils")
        if ran.status != 0:
            raise InfraError(f"could not unpack {archives[0].name}: tar said: {ran.said}")
        shutil.rmtree(directory / "deb")
        check_tree(tree)

    def _fragments(self, wanted: CatalogueKernel) -> tuple[Fragment, ...]:
        def read(name: str) -> str:
            path = self._catalogue.fragment(name)
            try:
                return path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"cannot read the fragment {path}: {error}") from error

        return tuple(Fragment(name, read(name)) for name in wanted.fragments)

    def _recipe(self, wanted: CatalogueKernel) -> str:
        return f"debian {wanted.suite} {wanted.package} {_digest(self._fragments(wanted))}"

    def _waiting(self, what: str) -> None:
        self._progress(0, None, what)


def _toolchain() -> Toolchain:
    require_programs()
    return Toolchain.find()


def _digest(fragments: Sequence[Fragment]) -> str:
    """Of what the fragments ask for: comments and blank lines do not make another kernel."""
    text = "\n".join(
        f"{option}={value}" for fragment in fragments for option, value in fragment.options.items()
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(tree: SourceTree, fragments: Sequence[Fragment], toolchain: Toolchain) -> str:
    text = "\n".join((tree.id, _digest(fragments), toolchain.version))
    return f"built-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
