"""One kernel from a tree and a configuration: built where the last build left off, and put into the cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.build import Build, jobs_here, knows_option
from harness.kernels.kbuild.configs import BOOT, Configuration
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import NO_LIMITS, Limits, Progress
from harness.kernels.record import KIND, Record, describe_image, sha256_of
from harness.kernels.trees.origin import SourceTree
from harness.kernels.trees.patches import series_digest
from harness.linux.kconfig import Missing
from harness.spec import PageSize

__all__ = ["Made", "Maker", "Order", "build_name"]

_IMAGE = "arch/arm64/boot/Image"
_GENERATION = "granule.generation"
_DROPPED = "granule.dropped"
_BOOT_OPTION = "ARM64_BOOT_TIME_PAGE_SIZE"
_MAX_SUBJECTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A kernel to be built."""

    name: str
    """Of the kernel, in a cell's id."""
    page_size: PageSize | None
    """None for a kernel that takes it at boot."""
    configuration: Configuration
    recipe: str = ""
    """See Record.recipe; empty: the tree and the configuration."""
    steps: int = 0
    """Lines that a first build prints, roughly."""
    keep_going: bool = False
    """Compile all that can be, although the build has failed."""
    watched: bool = False
    """Run make although that very kernel is in the cache, with a log that tells objects apart."""
    limits: Limits = NO_LIMITS
    """Of each run of make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of an order."""

    kernel: Kernel
    output: Path
    """The build directory: whoever holds the tree may read it until the next kernel is ordered."""
    dropped: tuple[Missing, ...] = ()
    """Options of a full configuration that this tree does not know or that depend on what is off."""
    dropped_list: Path | None = None
    """The file with all of them, in the build directory."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Builds kernels of one cache with one compiler."""

    cache: Cache
    toolchain: Toolchain
    progress: Progress

    def make(self, order: Order, tree: SourceTree) -> Made:
        """The kernel ordered: from the cache where tree, configuration and compiler are the same, else built.

        Raises UsageError when a fragment's option is lost or the tree knows no boot-time page size,
        BuildFailed, and InfraError when what was built is not what was asked for.
        """
        self._refuse_unknown_choice(order, tree)
        key = _key(tree, order.configuration, self.toolchain)
        with self.cache.workdir(build_name(order, tree), waiting=self._waiting) as output:
            path = self.cache.find(KIND, key) if tree.is_fixed and not order.watched else None
            dropped: tuple[Missing, ...] = ()
            if path is None:
                path, dropped = self._build(order, tree, output, key)
            record = Record.read(path)
        if record is None:
            raise InfraError(
                f"{path} has no provenance; remove it with `granule cache prune` and build again"
            )
        kernel = record.kernel(path, order.name)
        return Made(
            kernel=kernel,
            output=output,
            dropped=dropped,
            dropped_list=output / _DROPPED if dropped else None,
        )

    def _build(
        self, order: Order, tree: SourceTree, output: Path, key: str
    ) -> tuple[Path, tuple[Missing, ...]]:
        _start_afresh_for(tree, output)
        build = Build(
            source=tree.path,
            output=output,
            toolchain=self.toolchain,
            ccache_dir=self.cache.shared_workdir("ccache"),
            jobs=jobs_here(),
            expected_steps=order.steps,
            progress=self.progress,
            grouped=order.watched,
            limits=order.limits,
        )
        dropped = build.configure(order.configuration.fragments, order.configuration.base)
        _list_dropped(dropped, output)
        build.compile(keep_going=order.keep_going)
        path = self.cache.make(
            KIND,
            key if tree.is_fixed else _key_of_result(output, _recipe(order, tree), tree),
            lambda directory: self._publish(build, order, tree, directory),
            describe=f"{order.name} from {tree.origin}",
            waiting=self._waiting,
        )
        return path, dropped

    def _publish(self, build: Build, order: Order, tree: SourceTree, directory: Path) -> None:
        shutil.copyfile(build.output / _IMAGE, directory / "Image")
        shutil.copyfile(build.output / ".config", directory / "config")
        shutil.copyfile(build.output / "vmlinux", directory / "vmlinux")
        image, release, sha256 = describe_image(directory / "Image")
        page_size = image.header.page_size
        if page_size is not order.page_size:
            has, asked = (size.label if size else "unspecified" for size in (page_size, order.page_size))
            raise InfraError(
                f"{order.name} was built with {has} pages in its Image header, not {asked} as was asked for"
            )
        if build.has_modules:
            build.install_modules(directory)
            if not (directory / "lib/modules" / release).is_dir():
                raise InfraError(f"{order.name} was built, but no modules were installed for {release}")
        Record(
            origin=f"{release} built from {tree.origin} with {', '.join(order.configuration.names)}",
            release=release,
            image_sha256=sha256,
            page_size_bytes=None if page_size is None else page_size.bytes,
            recipe=_recipe(order, tree),
            details=_details(order, tree, build.toolchain),
        ).write(directory)

    def _refuse_unknown_choice(self, order: Order, tree: SourceTree) -> None:
        if order.page_size is None and not knows_option(tree.path, _BOOT_OPTION):
            raise UsageError(
                f"--page-size {BOOT}: {tree.origin} has no {_BOOT_OPTION}, so it cannot make a kernel that "
                "takes its page size at boot. Apply the boot-time page size series with --patches, or give a "
                "tree that has it."
            )

    def _waiting(self, what: str) -> None:
        self.progress(0, None, what)


def build_name(order: Order, tree: SourceTree) -> str:
    """Names the working directory of the cache that an order is built in."""
    return f"build-{tree.place}-{order.configuration.directory_name}"


def _start_afresh_for(tree: SourceTree, output: Path) -> None:
    """Empty a build directory that was last used with another life of the tree's copy.

    Files of a new copy have old times, so that make would take the objects of another series for up to date.
    """
    mark = output / _GENERATION
    known = mark.read_text(encoding="utf-8") if mark.exists() else ""
    if known == tree.generation:
        return
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    mark.write_text(tree.generation, encoding="utf-8")


def _list_dropped(dropped: Sequence[Missing], output: Path) -> None:
    text = "".join(f"{missing}\n" for missing in dropped)
    (output / _DROPPED).write_text(text, encoding="utf-8")


def _recipe(order: Order, tree: SourceTree) -> str:
    return order.recipe or f"tree {tree.path} {tree.id} {' '.join(order.configuration.names)}"


def _details(order: Order, tree: SourceTree, toolchain: Toolchain) -> dict[str, str]:
    details = {
        "name": order.name,
        "source": tree.origin,
        "tree": tree.id,
        "compiler": toolchain.version,
        "config": order.configuration.origin,
        "fragments": " ".join(fragment.name for fragment in order.configuration.fragments),
    }
    if tree.series:
        details |= {
            "patches": str(len(tree.series)),
            "patches_sha256": series_digest(tree.series),
            "patch_subjects": "\n".join(patch.subject for patch in tree.series[:_MAX_SUBJECTS]),
        }
    return details


def _key(tree: SourceTree, configuration: Configuration, toolchain: Toolchain) -> str:
    text = "\n".join((tree.id, configuration.digest, toolchain.version))
    return f"built-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def _key_of_result(output: Path, recipe: str, tree: SourceTree) -> str:
    """By all that is published: a driver may change in its module alone, which the Image does not show."""
    digest = hashlib.sha256(f"{recipe}\n{tree.id}\n".encode("utf-8", "surrogateescape"))
    for name in (_IMAGE, ".config", *_module_files(output)):
        if (output / name).is_file():
            digest.update(f"{name} {sha256_of(output / name)}\n".encode("utf-8", "surrogateescape"))
    return f"image-{digest.hexdigest()}"


def _module_files(output: Path) -> list[str]:
    """The modules that a build made, as kbuild lists them (modules.order: objects before Linux 6.3)."""
    order = output / "modules.order"
    if not order.is_file():
        return []
    lines = order.read_text(encoding="utf-8", errors="surrogateescape").split()
    return sorted(f"{line.removesuffix('.o').removesuffix('.ko')}.ko" for line in lines)
