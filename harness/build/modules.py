"""Picks the modules a guest needs out of a kernel's, with what they depend on, laid out for modprobe.

Works on the few modules wanted: reading all of a distribution kernel's (4,000, compressed) takes minutes.
Dependencies come from each module's own `.modinfo` section, which modpost writes; the index files that
modprobe reads are made by depmod over our copy.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.build.initramfs import Entry, file
from harness.errors import InfraError, ToolMissing, UsageError
from harness.linux.unpacking import Compression, unpacked

__all__ = ["Wanted", "module_entries", "modules_key"]

MODULE_LIMIT_BYTES = 256 << 20
DEPMOD_S = 120
SUFFIXES = {
    ".ko": None,
    ".ko.xz": Compression.XZ,
    ".ko.gz": Compression.GZIP,
    ".ko.zst": Compression.ZSTD,
}
# What kbuild installs beside the modules; depmod and modprobe know from them what is built in.
BUILTIN_FILES = ("modules.order", "modules.builtin", "modules.builtin.modinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Names of modules, spelt with underscores."""

    boot: tuple[str, ...]
    """To be loaded when the guest starts, in this order."""
    demand: tuple[str, ...]
    """To be there for modprobe."""

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """From lines `boot NAME` and `demand NAME`, with `#` comments; raises InfraError on others."""
        lists: dict[str, list[str]] = {"boot": [], "demand": []}
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or words[0] not in lists:
                raise InfraError(f"the list of the guest's modules has a line that is not one: '{line}'")
            lists[words[0]].append(_normal(words[1]))
        return cls(boot=tuple(lists["boot"]), demand=tuple(lists["demand"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    name: str
    path: str
    """Relative to the modules directory, without the suffix of a compression."""
    content: bytes
    needs: tuple[str, ...]
    """Must be loaded before it."""
    likes: tuple[str, ...]
    """Soft dependencies: loaded with it where they exist."""


def modules_key(modules: Path, release: str, wanted: Wanted, *, kmod: bool = False) -> str:
    """What the result of `module_entries` depends on, by names, sizes and dates: in hex."""
    digest = hashlib.sha256(repr((1, release, wanted, *(("kmod",) if kmod else ()))).encode())
    for path in sorted(_files(modules)):
        about = path.stat()
        digest.update(f"{path.relative_to(modules)} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def module_entries(modules: Path, release: str, wanted: Wanted, *, kmod: bool = False) -> tuple[Entry, ...]:
    """Archive entries: lib/modules/RELEASE as modprobe wants it, and etc/modules.boot for the guest's init.

    Arguments: `modules`, the kernel's lib/modules/RELEASE; `release`, as `uname -r` prints it; `kmod`, with
    the indexes of kmod's own modprobe, which busybox's does without. Names that
    this kernel does not have as modules are passed over, and so is a module whose own dependencies are not
    there. Raises UsageError when a file is not a module.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+~-]{0,100}", release):
        raise UsageError(f"'{release}' cannot be a kernel release")
    closure = _closure(_by_name(modules), wanted)
    home = f"lib/modules/{release}"
    boot = _in_order(closure, wanted.boot)
    entries = [file(f"{home}/{module.path}", module.content) for module in closure.values()]
    entries.append(
        file("etc/modules.boot", "".join(f"/{home}/{closure[name].path}\n" for name in boot).encode())
    )
    return (*entries, *_indexes(modules, release, closure, kmod=kmod))


def _normal(name: str) -> str:
    return name.replace("-", "_")


def _files(modules: Path) -> Iterator[Path]:
    """Every module and index file; the links `build` and `source` are not followed."""
    for parent, _, names in os.walk(modules):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and (_suffix(path) or name in BUILTIN_FILES):
                yield path


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")


def _by_name(modules: Path) -> dict[str, tuple[Path, str]]:
    """Path and path in the guest of each module. As in depmod, `updates/` hides what is in `kernel/`."""
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(_files(modules), key=lambda path: path.relative_to(modules).parts[0] == "updates"):
        if suffix := _suffix(path):
            inside = str(path.relative_to(modules)).removesuffix(suffix) + ".ko"
            found[_normal(path.name.removesuffix(suffix))] = (path, inside)
    return found


def _read(path: Path) -> bytes:
    compression = SUFFIXES[_suffix(path)]
    size_bytes = path.stat().st_size
    if compression is None:
        content = path.read_bytes() if size_bytes <= MODULE_LIMIT_BYTES else b""
    else:
        with unpacked(path, 0, size_bytes, compression) as blocks:
            content = b""
            for block in blocks:
                content += block
                if len(content) > MODULE_LIMIT_BYTES:
                    break
    if not 0 < len(content) <= MODULE_LIMIT_BYTES:
        raise UsageError(f"{path} is not a module: it is empty or larger than {MODULE_LIMIT_BYTES >> 20} MiB")
    return content


def _load(name: str, path: Path, inside: str) -> _Module:
    content = _read(path)
    needs: list[str] = []
    likes: list[str] = []
    for key, value in _modinfo(path, content):
        if key == "depends":
            needs += [_normal(word) for word in value.split(",") if word]
        elif key == "softdep":
            likes += [_normal(word) for word in value.split() if not word.endswith(":")]
    return _Module(name=name, path=inside, content=content, needs=tuple(needs), likes=tuple(likes))


def _modinfo(path: Path, content: bytes) -> list[tuple[str, str]]:
    """The `key=value` strings of a module (include/linux/moduleparam.h, __MODULE_INFO)."""
    try:
        section = ELFFile(io.BytesIO(content)).get_section_by_name(".modinfo")
        data = section.data() if section is not None else None
    # pyelftools lets what it meets in a damaged file escape as whatever error it ran into.
    except (
        ELFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise UsageError(f"{path} is not a kernel module: {error}") from error
    if data is None:
        raise UsageError(f"{path} is not a kernel module: it has no .modinfo section")
    pairs = (field.decode("utf-8", "replace").partition("=") for field in data.split(b"\0") if field)
    return [(key, value) for key, _, value in pairs]


def _closure(by_name: dict[str, tuple[Path, str]], wanted: Wanted) -> dict[str, _Module]:
    """The modules wanted with all they depend on, each only when it is complete."""
    loaded: dict[str, _Module] = {}
    pending = [*wanted.boot, *wanted.demand]
    while pending:
        name = pending.pop()
        if name in by_name and name not in loaded:
            loaded[name] = _load(name, *by_name[name])
            pending += [*loaded[name].needs, *loaded[name].likes]
    # Without one of its dependencies a module cannot load, and neither can what depends on it.
    while broken := [name for name, module in loaded.items() if not loaded.keys() >= set(module.needs)]:
        for name in broken:
            del loaded[name]
    return loaded


def _in_order(closure: dict[str, _Module], names: tuple[str, ...]) -> list[str]:
    """Those of the modules that `closure` has, each after all that it depends on."""
    order: list[str] = []
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in closure and name not in visiting:
            visiting.add(name)
            for other in (*closure[name].likes, *closure[name].needs):
                visit(other)
            order.append(name)

    for name in names:
        visit(name)
    return order


def _indexes(modules: Path, release: str, closure: dict[str, _Module], *, kmod: bool) -> tuple[Entry, ...]:
    """The kernel's lists of what is built in, and what depmod makes of a copy of the modules."""
    with tempfile.TemporaryDirectory() as temporary:
        # Distributions differ in where their depmod looks below the base directory.
        home = Path(temporary, "usr", "lib", "modules", release)
        home.mkdir(parents=True)
        Path(temporary, "lib").symlink_to("usr/lib")
        for module in closure.values():
            copy = home / module.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(module.content)
        for name in BUILTIN_FILES:
            if (modules / name).is_file():
                shutil.copyfile(modules / name, home / name)
        _depmod(Path(temporary), release)
        # The `.bin` files are for kmod's own modprobe; busybox reads the text.
        made = sorted(path for path in home.glob("modules.*") if kmod or path.suffix != ".bin")
        return tuple(file(f"lib/modules/{release}/{path.name}", path.read_bytes()) for path in made)


def _depmod(base: Path, release: str) -> None:
    # depmod lives in sbin, which is not on an ordinary user's PATH in Debian.
    depmod = shutil.which("depmod", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if depmod is None:
        raise ToolMissing("depmod", package="kmod")
    try:
        done = subprocess.run(
            [depmod, "-b", str(base), release],
            capture_output=True, text=True, errors="replace", check=False, timeout=DEPMOD_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"depmod did not end within {DEPMOD_S} s") from error
    if done.returncode != 0:
        raise InfraError(f"depmod failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
