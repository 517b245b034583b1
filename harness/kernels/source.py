"""Kernels built from source: Debian's linux-source packages, or a tree of the user's, plus fragments."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable
from harness.kernels.apt import Package, PrivateApt
from harness.kernels.catalogue import Catalogue, CatalogueKernel
from harness.kernels.kbuild.build import check_tree
from harness.kernels.kbuild.configs import BOOT, Configuration, read_fragment, read_page_fragment
from harness.kernels.kbuild.making import Made, Maker, Order
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet, run_lines
from harness.kernels.record import find_made
from harness.kernels.trees.origin import SOURCES, SourceTree, find_tree
from harness.kernels.trees.patches import Patch
from harness.kernels.trees.scratch import patched
from harness.spec import PageSize

__all__ = ["SourceKernels"]


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
        maker = self._maker()
        try:
            tree = self.debian_source(wanted.package, wanted.suite, offline=offline, refresh=refresh)
        except KernelUnavailable as error:
            raise KernelUnavailable(
                f"the kernel {wanted.name} is not built: {error}, as in `granule kernels fetch {wanted.name}`"
            ) from error
        return maker.make(self._order(wanted, recipe=self._recipe(wanted)), tree).kernel

    def build_tree(
        self,
        wanted: CatalogueKernel,
        tree: Path | str,
        series: Sequence[Patch] = (),
        *,
        keep_going: bool = False,
    ) -> Made:
        """Build a tree of the user's (see find_tree) with the fragments of `wanted`; else as `build`."""
        maker = self._maker()
        found = find_tree(self._cache, str(tree), progress=self._progress)
        with patched(self._cache, found, series, progress=self._progress) as source:
            return maker.make(self._order(wanted, keep_going=keep_going), source)

    def build(
        self,
        tree: str,
        configuration: Configuration | None,
        page_sizes: Sequence[PageSize | None],
        series: Sequence[Patch] = (),
        *,
        keep_going: bool = False,
        made: Callable[[Made], None] = lambda _made: None,
    ) -> tuple[Made, ...]:
        """Build a tree of the user's at each page size, one after the other, each with all processors.

        Arguments: `tree`, as find_tree takes it, never written to; `configuration`, without a page size (None
        for that of the trimmed kernels); `page_sizes`, None for a kernel that takes it at boot; `series`, to
        be applied to a copy; `keep_going`, compile all that can be; `made`, told of each kernel once it is
        there.

        make runs each time, and is incremental, unless the tree is fixed (a tarball, a commit) and that very
        kernel is in the cache. Raises UsageError for what cannot be built, BuildFailed, ToolMissing.
        """
        toolchain = _toolchain()
        found = find_tree(self._cache, tree, progress=self._progress)
        results = []
        with patched(self._cache, found, series, progress=self._progress) as source:
            for size in page_sizes:
                label = BOOT if size is None else size.token
                order = Order(
                    name=f"{found.label}-{label}",
                    page_size=size,
                    configuration=self.configured(configuration, size),
                    keep_going=keep_going,
                )
                maker = Maker(self._cache, toolchain, self._named(order.name))
                results.append(maker.make(order, source))
                made(results[-1])
        return tuple(results)

    def configured(self, configuration: Configuration | None, size: PageSize | None) -> Configuration:
        """A configuration with a page size; that of the trimmed kernels where there is none."""
        if configuration is None:
            names = ("trimmed", "ptdump")
            configuration = Configuration(
                fragments=tuple(read_fragment(name, self._catalogue) for name in names)
            )
        page = read_page_fragment(size, self._catalogue, whole=configuration.base is None)
        return configuration.over_it(page)

    def _named(self, name: str) -> Progress:
        return lambda done, total, what: self._progress(done, total, f"{name}: {what}")

    def _maker(self) -> Maker:
        return Maker(self._cache, _toolchain(), self._progress)

    def _order(self, wanted: CatalogueKernel, *, recipe: str = "", keep_going: bool = False) -> Order:
        return Order(
            name=wanted.name,
            page_size=wanted.page_size,
            configuration=self._configuration(wanted),
            recipe=recipe,
            steps=wanted.steps,
            keep_going=keep_going,
        )

    def debian_source(
        self, package: str, suite: str, *, offline: bool = False, refresh: bool = False
    ) -> SourceTree:
        """The tree of one of Debian's source packages, such as `linux-source-6.12`, fetched when not cached.

        Raises KernelUnavailable when it is not cached and `offline` is set, InfraError without network.
        """
        key = None
        if offline or not refresh:
            key = next((key for key in self._cache.keys(SOURCES) if key.startswith(f"{package}_")), None)
        path = None if key is None else self._cache.find(SOURCES, key)
        if path is None:
            if offline:
                raise KernelUnavailable(
                    f"the kernel source {package} is not in the cache {self._cache.root}, and --offline "
                    "forbids fetching it; leave that out once"
                )
            apt = PrivateApt(self._cache, suite, progress=self._progress)
            path = apt.into_cache(
                SOURCES,
                lambda again: apt.show(package, refresh=again),
                lambda package, directory: self._fetch(apt, package, directory),
                refresh=refresh,
            )
        name, version = path.name.split("_")[:2]
        return SourceTree(
            path=path / "tree",
            id=path.name,
            place=path.name,
            label=name,
            origin=f"Debian {name} {version}",
            is_fixed=True,
        )

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

    def _configuration(self, wanted: CatalogueKernel) -> Configuration:
        return Configuration(
            fragments=tuple(read_fragment(name, self._catalogue) for name in wanted.fragments)
        )

    def _recipe(self, wanted: CatalogueKernel) -> str:
        return f"debian {wanted.suite} {wanted.package} {self._configuration(wanted).digest}"


def _toolchain() -> Toolchain:
    require_programs()
    return Toolchain.find()
