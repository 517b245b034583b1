"""Compressed sizes, by the programs themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.errors import InfraError, ToolMissing
from harness.kernels.compressed import Compressor, compressed_bytes
from harness.kernels.kernel import Kernel
from harness.kernels.longrun import quiet
from harness.spec import PageSize


def _kernel(tmp_path: Path, content: bytes) -> Kernel:
    image = tmp_path / "Image"
    image.write_bytes(content)
    return Kernel(
        name="k", image=image, page_size=PageSize.K4, release="6.12", sha256="ab" * 32, origin="a test"
    )


CONTENT = b"".join(b"%d squared is %d\n" % (n, n * n) for n in range(20_000))


@pytest.mark.parametrize(
    ("compressor", "script"),
    [
        (Compressor.GZIP, "cat Image | gzip -n -f -9 | wc -c"),
        (Compressor.ZSTD, "cat Image | zstd -19 | wc -c"),
    ],
    ids=["gzip", "zstd"],
)
def test_as_the_kernel_build_does(tmp_path: Path, cache: Cache, compressor: Compressor, script: str) -> None:
    """The size is that of the command in the kernel's Makefile.lib, to the byte."""
    if shutil.which(compressor.program) is None:
        pytest.skip(f"{compressor.program} is missing: apt-get install {compressor.program}")
    kernel = _kernel(tmp_path, CONTENT)
    done = subprocess.run(("sh", "-c", script), cwd=tmp_path, check=True, capture_output=True, text=True)
    assert compressed_bytes(kernel, compressor, cache, quiet) == int(done.stdout)


def test_it_is_done_once(tmp_path: Path, cache: Cache) -> None:
    """An Image whose size is known is not compressed again; one with another hash is."""
    kernel = _kernel(tmp_path, CONTENT)
    size_bytes = compressed_bytes(kernel, Compressor.GZIP, cache, quiet)
    kernel.image.unlink()
    assert compressed_bytes(kernel, Compressor.GZIP, cache, quiet) == size_bytes
    (entry,) = cache.list()
    assert (entry.kind, entry.label) == ("sizes", "k, gzip -9")


def test_a_damaged_entry_is_made_anew(tmp_path: Path, cache: Cache) -> None:
    """What the cache holds is not believed when it is no number."""
    kernel = _kernel(tmp_path, CONTENT)
    size_bytes = compressed_bytes(kernel, Compressor.GZIP, cache, quiet)
    (entry,) = cache.list()
    (entry.path / "bytes").write_text("nonsense")
    assert compressed_bytes(kernel, Compressor.GZIP, cache, quiet) == size_bytes


def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin/gzip"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_program_that_fails(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is told with what the program said, and is not kept."""
    _program(tmp_path, monkeypatch, "echo half; echo 'no room' >&2; exit 1")
    with pytest.raises(InfraError, match=r"gzip -9 of .* failed: no room"):
        compressed_bytes(_kernel(tmp_path, b"x"), Compressor.GZIP, cache, quiet)
    assert cache.list() == ()


def test_a_program_that_is_missing(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is named with its package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get install zstd"):
        compressed_bytes(_kernel(tmp_path, b"x"), Compressor.ZSTD, cache, quiet)


def test_an_interruption_ends_the_program(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while it compresses ends the program at once, and leaves nothing in the cache."""
    _program(tmp_path, monkeypatch, '[ "$1" = --version ] && exit\necho $$ >pid; echo x; exec sleep 100')
    monkeypatch.chdir(tmp_path)

    def interrupt(_done: int, _total: int | None, what: str) -> None:
        if "so far" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compressed_bytes(_kernel(tmp_path, b"x"), Compressor.GZIP, cache, interrupt)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert cache.list() == ()
