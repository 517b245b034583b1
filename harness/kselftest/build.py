"""Builds a collection of kselftest from a kernel's source, static, for arm64, into the cache.

Against a sysroot of its own: Debian's C library and the few libraries that the tests want, with the headers
of that very source, so that the host's C library and its age do not matter. The tree is never written to:
the collection, whose makefile writes beside itself, is copied, and all around it is linked.

Sources: Linux tools/testing/selftests/lib.mk, mm/Makefile, mm/check_config.sh.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.compiling import run_tool
from harness.build.toolchain import Toolchain, require_programs
from harness.cache import Cache
from harness.errors import InfraError, UsageError
from harness.kernels.debian import fetch_package
from harness.kernels.kbuild.build import Build, jobs_here, step_of
from harness.kernels.longrun import Progress, quiet, run_lines
from harness.kernels.trees.origin import SourceTree
from harness.kselftest.script import SCRIPT_LIMIT_BYTES, Listed, read_script
from harness.paths import data_dir

__all__ = ["SYSROOT_PACKAGES", "Suite", "build_suite", "kernel_version"]

SYSROOT_PACKAGES = ("libc6-dev", "libcap-dev", "libnuma-dev", "liburing-dev")
"""Debian's packages (suite trixie) with all that the programs of `mm` are linked with."""

FORMAT = 2  # part of every key: raise it when the recipe below changes
SELFTESTS = Path("tools/testing/selftests")
SCRIPTS = {"mm": "run_vmtests.sh"}
"""The script of each collection that runs its tests."""

# A segment aligned to less than 64K cannot be mapped by a kernel with 64K pages.
_LDFLAGS = "-static -s -Wl,-z,max-page-size=65536 -Wl,--build-id=none"
_LOG = "build.log"
_COMPILER = Path(__file__).with_name("cross-cc.sh")
_FOREIGN_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "CFLAGS", "LDFLAGS", "KBUILD_OUTPUT", "LLVM")
_VERSION_LIMIT_BYTES = 1 << 16
_ERROR = re.compile(
    r"\S+?:\d+(?::\d+)?: (?:fatal )?error: .*|.*: undefined reference to .*|.*cannot find -l.*"
)
_FAILED = re.compile(r"make(?:\[\d+\])?: \*\*\* \[.*?(?P<target>[^/\]: ]+)\] Error .*")
# What the programs are made of, below the tree.
_INPUTS = ("include/uapi", "arch/arm64/include/uapi", "mm/gup_test.h", "lib/test_hmm_uapi.h", "Makefile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A collection that has been built."""

    collection: str
    directory: Path
    """Programs and scripts, as the collection's script wants them beside itself."""
    tests: tuple[Listed, ...]
    version: str
    """Of the kernel whose source it is from: `6.12.117`."""
    origin: str
    """That source, for people."""

    def missing(self, program: str) -> str:
        """Why there is no such program; empty where there is one."""
        if (self.directory / program).is_file():
            return ""
        log = self.directory / _LOG
        failed = dict(line.split("\t", 1) for line in log.read_text(encoding="utf-8").splitlines())
        if program in failed:
            return f"it could not be built: {failed[program]}"
        return "this source builds no such program for arm64"


def build_suite(
    cache: Cache, tree: SourceTree, collection: str, *, offline: bool = False, progress: Progress = quiet
) -> Suite:
    """The collection's programs, built unless they are in the cache; one that does not build is left out.

    Raises UsageError where the tree has no such collection, InfraError where nothing could be built or the
    sysroot's packages cannot be had, ToolMissing.
    """
    require_programs()
    toolchain = Toolchain.find()
    script = tree.path / SELFTESTS / collection / SCRIPTS[collection]
    if not script.is_file():
        raise UsageError(
            f"{tree.origin} has no {SELFTESTS / collection / SCRIPTS[collection]}: kselftest's collection "
            f"'{collection}' cannot be built from it"
        )
    roots = [
        fetch_package(cache, name, offline=offline, progress=progress) for name in SYSROOT_PACKAGES
    ]  # fmt: skip
    digest = hashlib.sha256(
        repr(
            (FORMAT, collection, toolchain.cc, toolchain.version, _LDFLAGS, [root.name for root in roots])
        ).encode()
    )
    own = [(path.name, path) for path in (_COMPILER, _line_buffered())]
    for name, path in (*own, *((name, tree.path / name) for name in _inputs(tree.path, collection))):
        content = path.read_bytes()
        digest.update(f"\n{name} {len(content)}\n".encode() + content)

    def build(directory: Path) -> None:
        work = directory / "work"
        work.mkdir()
        _Making(tree=tree, collection=collection, toolchain=toolchain, cache=cache, progress=progress).run(
            work, directory, roots
        )
        shutil.rmtree(work)

    made = cache.make(
        "kselftest", digest.hexdigest()[:32], build, describe=f"kselftest {collection} of {tree.origin}"
    )
    with script.open("rb") as file:
        tests = read_script(file.read(SCRIPT_LIMIT_BYTES).decode("utf-8", "replace"))
    if not tests:
        raise InfraError(
            f"{script.name} of {tree.origin} is not written as expected: no test was found in it"
        )
    return Suite(
        collection=collection,
        directory=made,
        tests=tests,
        version=kernel_version(tree.path),
        origin=tree.origin,
    )


def kernel_version(tree: Path) -> str:
    """The version in a tree's top Makefile: `6.12.117`, `6.18.0-rc3`."""
    with (tree / "Makefile").open("rb") as file:
        text = file.read(_VERSION_LIMIT_BYTES).decode("utf-8", "replace")
    fields: dict[str, str] = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", text, re.MULTILINE)
    )
    if not {"VERSION", "PATCHLEVEL", "SUBLEVEL"} <= fields.keys():
        raise UsageError(f"{tree}/Makefile does not say which version of Linux it is")
    return "{VERSION}.{PATCHLEVEL}.{SUBLEVEL}".format(**fields) + fields.get("EXTRAVERSION", "")


def _line_buffered() -> Path:
    return data_dir("guests") / "kselftest/line-buffered.c"


def _inputs(tree: Path, collection: str) -> Iterator[str]:
    """Files that decide what is built, as paths from the tree, in order."""
    selftests = tree / SELFTESTS
    found = [path for name in _INPUTS for path in (tree / name, *(tree / name).rglob("*"))]
    found += [*(selftests / collection).rglob("*"), *selftests.glob("*.h"), *selftests.glob("*.mk")]
    for path in sorted(found):
        if path.is_file():
            yield path.relative_to(tree).as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    tree: SourceTree
    collection: str
    toolchain: Toolchain
    cache: Cache
    progress: Progress

    def run(self, work: Path, target: Path, roots: Sequence[Path]) -> None:
        """Build in `work`, and lay into `target` what a guest wants."""
        sysroot = work / "sysroot"
        for root in roots:
            shutil.copytree(root, sysroot, symlinks=True, dirs_exist_ok=True)
        self._headers(work / "headers", sysroot)
        source = self._scratch(work / "tree")
        made = work / "made"
        made.mkdir()
        shutil.copyfile(_COMPILER, work / "cc")
        (work / "cc").chmod(0o755)
        lines = (*self.toolchain.cc, "-O2", "-c", "-o", str(work / "lines.o"), str(_line_buffered()))
        run_tool(lines, making="what has tests write line by line")
        failed = self._make(source, made, sysroot, work)
        if failed:
            # Stable kernels' backports forget it: khugepaged.c of 6.12.117 uses KSFT_SKIP without.
            included = f"-include {source.parent}/kselftest.h"
            failed = self._make(source, made, sysroot, work, flags=included, only=tuple(failed))
        programs = [path for path in made.iterdir() if path.is_file() and not path.suffix]
        if not programs:
            reasons = "; ".join(list(dict.fromkeys(failed.values()))[:3]) or "make made nothing"
            raise InfraError(
                f"kselftest {self.collection} of {self.tree.origin} could not be built: {reasons}"
            )
        for path in (*programs, *source.glob("*.sh")):
            shutil.copy(path, target / path.name)
        log = "".join(f"{name}\t{why}\n" for name, why in sorted(failed.items()))
        (target / _LOG).write_text(log, encoding="utf-8")

    def _headers(self, output: Path, sysroot: Path) -> None:
        """What the kernel tells programs, into the sysroot."""
        output.mkdir()
        build = Build(
            source=self.tree.path,
            output=output,
            toolchain=self.toolchain,
            ccache_dir=self.cache.shared_workdir("ccache"),
            jobs=jobs_here(),
            expected_steps=0,
            progress=self.progress,
        )
        ran = build.run(("headers",), self._step)
        if ran.status != 0:
            raise InfraError(f"`make headers` of {self.tree.origin} failed and said: {ran.said}")
        shutil.copytree(
            output / "usr/include", sysroot / "usr/include", dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(".*"),
        )  # fmt: skip

    def _scratch(self, top: Path) -> Path:
        """A tree in which only the collection is real; returns its directory there."""
        own = SELFTESTS / self.collection
        for parent in reversed((own / "_").parents):
            (top / parent).mkdir()
            inside = own.parts[len(parent.parts)] if len(parent.parts) < len(own.parts) else ""
            if not inside:
                continue
            for path in (self.tree.path / parent).iterdir():
                if path.name != inside:
                    (top / parent / path.name).symlink_to(path)
        shutil.copytree(self.tree.path / own, top / own, symlinks=True, dirs_exist_ok=True)
        return top / own

    def _make(
        self,
        source: Path,
        made: Path,
        sysroot: Path,
        work: Path,
        *,
        flags: str = "",
        only: tuple[str, ...] = (),
    ) -> dict[str, str]:
        """Run the collection's makefile, as far as it goes; why each program that failed did."""
        compiler = work / "cc"
        argv = [
            "make", "-k", "-O", f"-j{jobs_here()}", "-C", str(source), f"OUTPUT={made}", "ARCH=arm64",
            f"CROSS_COMPILE={self.toolchain.prefix}", f"CC={compiler}",
            f"KHDR_INCLUDES=-isystem {sysroot}/usr/include", f"USERLDFLAGS={_LDFLAGS} {work / 'lines.o'}",
            f"USERCFLAGS={flags}", *(f"{made}/{name}" for name in only),
        ]  # fmt: skip
        environment: dict[str, str | None] = {
            "GRANULE_SYSROOT": str(sysroot), "GRANULE_CC": self.toolchain.cc[0],
            **dict.fromkeys(_FOREIGN_VARIABLES),
        }  # fmt: skip
        errors: list[str] = []
        failed: dict[str, str] = {}

        def on_line(line: str) -> bool:
            if _ERROR.fullmatch(line):
                errors.append(line.replace(str(work), ""))
            elif target := _FAILED.fullmatch(line):
                failed[target["target"]] = (errors[0] if errors else line)[:300]
                errors.clear()
            return self._step(line)

        run_lines(argv, on_line, package="make", env=environment)
        return failed

    def _step(self, line: str) -> bool:
        step = step_of(line)
        if step is not None:
            self.progress(0, None, f"kselftest: {step}")
        return step is not None
