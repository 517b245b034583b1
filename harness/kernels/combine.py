"""Combined Images as kernels: made of the catalogue's, or found in a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.build.selector import build_selector, selector_digest
from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.errors import InfraError, KernelUnavailable, UsageError
from harness.kernels.catalogue import CatalogueKernel
from harness.kernels.combined import Member, assemble, extract, read_members
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import Progress, quiet
from harness.kernels.record import KIND, Record, find_made, find_sha256, sha256_of
from harness.linux.image import linux_banner, linux_release
from harness.linux.kconfig import embedded_config

__all__ = ["CombinedKernels", "members_of_file", "refuse_unfit", "releases"]

_IMAGES = "images"
_UNKNOWN = "unknown"


class CombinedKernels:
    """Makes the catalogue's combined kernels.

    Arguments: `find`, a member if it is in the cache; `get`, a member, fetched or built if need be.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        find: Callable[[str], Kernel | None],
        get: Callable[[str, bool], Kernel],
        progress: Progress = quiet,
    ) -> None:
        self._cache = cache
        self._find_member = find
        self._get_member = get
        self._progress = progress

    def members(self, wanted: CatalogueKernel) -> tuple[Kernel, ...] | None:
        """Its members, if all of them are in the cache."""
        found = [self._find_member(name) for name in wanted.members]
        return None if None in found else tuple(member for member in found if member is not None)

    def find(self, wanted: CatalogueKernel) -> Kernel | None:
        """The one made of the members that are in the cache now, whatever compiler made its selector."""
        members = self.members(wanted)
        if members is None:
            return None
        found = find_made(self._cache, _recipe(members))
        return None if found is None else _kernel(found[1], found[0], wanted.name, members)

    def get(self, wanted: CatalogueKernel, *, refresh: bool = False) -> Kernel:
        """The combined kernel, made with its members when absent.

        Raises KernelUnavailable and the like for a member that cannot be had, naming it.
        """
        members = []
        for name in wanted.members:
            try:
                members.append(self._get_member(name, refresh))
            except KernelUnavailable as error:
                raise KernelUnavailable(f"{wanted.name} holds {name}: {error}") from error
        refuse_unfit(members)
        recipe = _recipe(members)
        found = find_made(self._cache, recipe)
        if found is None:
            found = self._make(wanted, members, recipe)
        return _kernel(found[1], found[0], wanted.name, tuple(members))

    def _make(self, wanted: CatalogueKernel, members: Sequence[Kernel], recipe: str) -> tuple[Path, Record]:
        self._progress(0, None, "combining")
        toolchain = Toolchain.find()
        selector = (build_selector(toolchain, self._cache) / "selector.bin").read_bytes()
        names = ", ".join(member.name for member in members)

        def build(directory: Path) -> None:
            image = directory / "Image"
            with image.open("wb") as out:
                assemble(selector, [(member.name, member.image) for member in members], out)
            Record(
                origin=f"{len(members)} kernels in one file: "
                + "; ".join(f"{member.name} ({member.origin})" for member in members),
                release=releases(members),
                image_sha256=sha256_of(image),
                page_size_bytes=None,
                recipe=recipe,
                details={"members": names, "compiler": toolchain.version},
            ).write(directory)

        digest = hashlib.sha256(f"{recipe} {toolchain.version}".encode()).hexdigest()[:32]
        path = self._cache.make(KIND, f"combined-{digest}", build, describe=f"{wanted.name}: {names}")
        record = Record.read(path)
        if record is None:
            raise InfraError(
                f"{path} has no provenance; remove it with `granule cache prune` and combine again"
            )
        return path, record


def refuse_unfit(kernels: Sequence[Kernel]) -> None:
    """Raise UsageError for a kernel that holds several, or takes its page size at boot already."""
    for kernel in kernels:
        if kernel.members:
            raise UsageError(f"{kernel.name} is a combined Image already; name the kernels that it holds")
        if kernel.is_boot_time:
            raise UsageError(
                f"{kernel.name} takes its page size at boot by itself; only kernels of one page size can be "
                "combined"
            )


def members_of_file(cache: Cache, image: Path) -> tuple[Kernel, ...]:
    """The kernels in a combined Image, unpacked into the cache; none for any other file.

    One that the cache has as a kernel of the catalogue comes with that kernel's modules and symbols. Raises
    UsageError for a damaged file.
    """
    found = read_members(image)
    if not found:
        return ()
    digest = sha256_of(image)

    def build(directory: Path) -> None:
        for member in found:
            into = directory / member.page_size.token
            into.mkdir()
            extract(image, member, into / "Image")
            text = embedded_config(into / "Image")
            if text is not None:
                (into / "config").write_text(text, encoding="utf-8")

    names = ", ".join(member.name for member in found)
    path = cache.make(_IMAGES, f"members-{digest}", build, describe=f"out of a combined Image: {names}")
    return tuple(_member(cache, path / member.page_size.token, member) for member in found)


def _member(cache: Cache, directory: Path, member: Member) -> Kernel:
    image = directory / "Image"
    sha256 = sha256_of(image)
    known = find_sha256(cache, sha256, member.name)
    if known is not None:
        return known
    banner = linux_banner(image)
    config = directory / "config"
    return Kernel(
        name=member.name,
        image=image,
        page_size=member.page_size,
        release=linux_release(banner) if banner else _UNKNOWN,
        sha256=sha256,
        origin="out of a combined Image",
        config=config if config.exists() else None,
    )


def _kernel(record: Record, directory: Path, name: str, members: tuple[Kernel, ...]) -> Kernel:
    return replace(record.kernel(directory, name), is_boot_time=True, members=members)


def _recipe(members: Sequence[Kernel]) -> str:
    contents = " ".join(f"{member.name}={member.sha256}" for member in members)
    return f"combine {selector_digest()} {contents}"


def releases(members: Sequence[Kernel]) -> str:
    """What is said for the release of a combined kernel: its members', each once."""
    return " / ".join(dict.fromkeys(member.release for member in members))
