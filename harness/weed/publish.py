"""The weeded kernel, put into the cache, where a later weeding of the same tree does not touch it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from harness.cache import Cache
from harness.kernels.kbuild.build import Build
from harness.kernels.record import sha256_of
from harness.weed.verdicts import Outcome

__all__ = ["KIND", "published"]

KIND = "weeded"


def published(cache: Cache, build: Build, outcome: Outcome) -> Outcome:
    """The outcome with the Image's place in the cache; beside it config, vmlinux, modules and the fragment.

    An outcome without an Image is returned as it is.
    """
    if outcome.image is None:
        return outcome
    built = outcome.image

    def fill(directory: Path) -> None:
        shutil.copyfile(built, directory / "Image")
        shutil.copyfile(build.output / "vmlinux", directory / "vmlinux")
        (directory / "config").write_text(outcome.config, encoding="utf-8")
        (directory / "weed.config").write_text(outcome.fragment, encoding="utf-8")
        (directory / "weed.json").write_text(json.dumps(outcome.as_json(), indent=1), encoding="utf-8")
        if build.has_modules:
            build.install_modules(directory)

    key = f"image-{sha256_of(built)[:32]}"
    path = cache.make(KIND, key, fill, describe=f"weeded from {build.source}")
    return replace(outcome, image=path / "Image")
