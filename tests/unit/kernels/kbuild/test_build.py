"""Running kbuild, against a fake make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.toolchain import Toolchain
from harness.errors import InfraError, UsageError
from harness.kernels.kbuild.build import Build, BuildFailed, check_tree, jobs_for, knows_option
from harness.kernels.kbuild.configs import Base, Fragment

FRAGMENTS = (Fragment("base", "CONFIG_MODULES=y\nCONFIG_NET=y\n"), Fragment("extra", "CONFIG_DEBUG_WX=y\n"))


@pytest.fixture
def told() -> list[tuple[int, int | None, str]]:
    return []


@pytest.fixture
def build(
    fakes: Path, tmp_path: Path, make_image: Callable[..., bytes], told: list[tuple[int, int | None, str]]
) -> Build:
    (fakes / "image").write_bytes(make_image())
    output = tmp_path / "output"
    output.mkdir()
    return Build(
        source=tmp_path / "tree",
        output=output,
        toolchain=Toolchain(cc=("arm-gcc",), prefix="arm-", version="12", ccache="/usr/bin/ccache"),
        ccache_dir=tmp_path / "ccache",
        jobs=3,
        expected_steps=100,
        progress=lambda done, total, what: told.append((done, total, what)),
    )


def test_tree_is_never_written_to(build: Build, fakes: Path) -> None:
    """Every make has O=, the cross compiler behind ccache, and the jobs asked for."""
    build.configure(FRAGMENTS)
    build.compile()
    first, second = (fakes / "called").read_text().splitlines()
    for line in (first, second):
        assert line.startswith(f"-C {build.source} O={build.output} ARCH=arm64 CROSS_COMPILE=arm- ")
        assert "CC=/usr/bin/ccache arm-gcc -j3" in line
    assert first.endswith(" allnoconfig")
    assert second.endswith(" Image modules")


def test_environment_is_reproducible(build: Build, fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and times are fixed, and the user's KCFLAGS do not reach the kernel."""
    monkeypatch.setenv("KCFLAGS", "-O0")
    monkeypatch.setenv("MAKEFLAGS", "-n")
    build.configure(FRAGMENTS)
    lines = (fakes / "env").read_text().splitlines()
    assert "KBUILD_BUILD_USER=granule" in lines
    assert any(line.startswith("KBUILD_BUILD_TIMESTAMP=") for line in lines)
    assert f"CCACHE_DIR={build.ccache_dir}" in lines
    assert not any(line.startswith(("KCFLAGS", "MAKEFLAGS")) for line in lines)


def test_options_survive(build: Build) -> None:
    """Options of every fragment reach .config."""
    build.configure(FRAGMENTS)
    assert "CONFIG_DEBUG_WX=y" in (build.output / ".config").read_text()


def test_lost_option_is_named_with_its_fragment(build: Build, fakes: Path) -> None:
    """An option that allnoconfig dropped fails the build: option, wanted, found, and who asked."""
    (fakes / "loses").write_text("DEBUG_WX")
    with pytest.raises(UsageError, match=r"CONFIG_DEBUG_WX: wanted y, found n \(asked for by extra\)"):
        build.configure(FRAGMENTS)


def test_contradicting_fragments_are_told(build: Build) -> None:
    """Where two fragments want different values, the one that lost is named."""
    with pytest.raises(UsageError, match=r"CONFIG_NET: wanted y, found n \(asked for by base\)"):
        build.configure((*FRAGMENTS, Fragment("less", "CONFIG_NET=n\n")))


def test_progress_counts_compiled_files(build: Build, told: list[tuple[int, int | None, str]]) -> None:
    """A first build counts steps towards the expected number; an incremental one knows no total."""
    build.configure(FRAGMENTS)
    told.clear()
    build.compile()
    assert told == [
        (1, 100, "CC init/main.o"),
        (2, 100, "CC [M] drivers/net/dummy.o"),
        (3, 100, "LD vmlinux"),
    ]
    told.clear()
    build.compile()
    assert [total for _done, total, _what in told] == [None, None, None]


def test_count_of_the_last_build_is_the_next_total(
    build: Build, told: list[tuple[int, int | None, str]]
) -> None:
    """After one full build the expected number is the one counted."""
    build = dataclasses.replace(build, expected_steps=4)
    build.configure(FRAGMENTS)
    build.compile()
    (build.output / "vmlinux").unlink()
    told.clear()
    build.compile()
    assert [total for _done, total, _what in told] == [3, 3, 3]


def test_compiler_errors_are_shown(build: Build, fakes: Path) -> None:
    """A failed build shows the first five errors with file and line, and where the whole log is."""
    errors = [f"../mm/memory.c:{line}:5: error: 'x{line}' undeclared" for line in range(1, 8)]
    noise = "make[3]: *** [mm/memory.o] Error 1"
    (fakes / "fails").write_text("\n".join([noise, *errors, "make: *** [all] Error 2"]) + "\n")
    build.configure(FRAGMENTS)
    with pytest.raises(InfraError) as caught:
        build.compile()
    said = str(caught.value)
    assert all(error in said for error in errors[:5])
    assert errors[5] not in said
    assert noise not in said
    assert str(build.log) in said
    assert errors[6] in build.log.read_text()


def test_other_failures_show_makes_words(build: Build, fakes: Path) -> None:
    """Without compiler errors, make's own complaint is shown."""
    (fakes / "fails").write_text("  hm\nmake: *** No rule to make target 'x'.  Stop.\n")
    build.configure(FRAGMENTS)
    with pytest.raises(InfraError, match="No rule to make target 'x'"):
        build.compile()


def test_modules_have_no_links_back(build: Build, tmp_path: Path) -> None:
    """Installed modules do not point to the tree or the output directory, which may go."""
    build.configure(FRAGMENTS)
    build.install_modules(tmp_path / "staging")
    names = {path.name for path in (tmp_path / "staging/lib/modules/6.12.1-test").iterdir()}
    assert names == {"kernel"}


def test_odd_path_is_refused(build: Build, tmp_path: Path) -> None:
    """kbuild takes no spaces in a path: said before it fails in its own words."""
    output = tmp_path / "out put"
    output.mkdir()
    with pytest.raises(UsageError, match="spaces or colons"):
        dataclasses.replace(build, output=output).configure(FRAGMENTS)


FULL = "# CONFIG_NET is not set\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_CC_HAS_X=y\nCONFIG_OLD=m\nCONFIG_KEPT=7\n"
PAGE = Fragment("page-64k", "CONFIG_ARM64_64K_PAGES=y\n")


def test_full_configuration_is_the_base(build: Build, fakes: Path) -> None:
    """Fragments come last, and what they replace is gone, so that each option stands once."""
    (fakes / "unknown").touch()
    assert build.configure((*FRAGMENTS, PAGE), Base("old.config", FULL)) == ()
    given = (fakes / "given").read_text().splitlines()
    assert "CONFIG_KEPT=7" in given
    assert "CONFIG_ARM64_4K_PAGES=y" not in given
    assert [line for line in given if "CONFIG_NET" in line] == ["CONFIG_NET=y"]
    assert (fakes / "called").read_text().endswith(" olddefconfig\n")
    assert "KCONFIG_ALLCONFIG" not in (fakes / "env").read_text()


def test_dropped_options_of_a_base_are_told(build: Build, fakes: Path) -> None:
    """What a base had and the tree does not is returned, what only the compiler decides last."""
    (fakes / "unknown").write_text("OLD\nCC_HAS_X\n")
    dropped = build.configure((*FRAGMENTS, PAGE), Base("old.config", FULL))
    assert [(missing.option, missing.wanted) for missing in dropped] == [("OLD", "m"), ("CC_HAS_X", "y")]


def test_fragment_over_a_base_has_to_survive(build: Build, fakes: Path) -> None:
    """A base forgives nothing to the fragments over it."""
    (fakes / "unknown").write_text("DEBUG_WX\n")
    with pytest.raises(UsageError, match=r"CONFIG_DEBUG_WX: wanted y, found absent \(asked for by extra\)"):
        build.configure(FRAGMENTS, Base("old.config", FULL))


def test_make_target_is_a_base(build: Build, fakes: Path) -> None:
    """The tree's own configuration, fragments over it; what that makes of it is no loss."""
    (fakes / "defconfig").write_text(FULL)
    (fakes / "unknown").write_text("OLD\n")
    assert build.configure(FRAGMENTS, Base("virt_defconfig")) == ()
    assert "CONFIG_KEPT=7" in (build.output / ".config").read_text()
    calls = (fakes / "called").read_text().splitlines()
    assert [call.rsplit(" ", 1)[1] for call in calls] == ["virt_defconfig", "olddefconfig"]


def test_failure_carries_what_a_summary_needs(build: Build, fakes: Path) -> None:
    """The error has log, tree and output directory; with keep_going, make is told to."""
    (fakes / "fails").write_text("mm/a.c:1:2: error: no\n")
    build.configure(FRAGMENTS)
    with pytest.raises(BuildFailed) as caught:
        build.compile(keep_going=True)
    assert (caught.value.log, caught.value.source, caught.value.output) == (
        build.log,
        build.source,
        build.output,
    )
    assert caught.value.errors == ("mm/a.c:1:2: error: no",)
    assert (fakes / "called").read_text().endswith(" -k Image modules\n")


def test_option_is_looked_for_in_arm64s_kconfig(tmp_path: Path) -> None:
    """A definition counts; a mention does not, nor a longer name."""
    tree = make_tree(tmp_path / "linux")
    assert not knows_option(tree, "X")
    (tree / "arch/arm64/Kconfig").write_text("config XY\n\tdepends on X\n\tselect X\n")
    assert not knows_option(tree, "X")
    (tree / "arch/arm64/Kconfig").write_text("choice\n\tconfig X\n\tbool\n")
    assert knows_option(tree, "X")


def make_tree(path: Path) -> Path:
    (path / "arch/arm64").mkdir(parents=True)
    (path / "arch/arm64/Makefile").touch()
    (path / "Kconfig").touch()
    return path


def test_clean_tree_is_accepted(tmp_path: Path) -> None:
    """A tree with Kconfig and arch/arm64 will do."""
    check_tree(make_tree(tmp_path / "linux"))


@pytest.mark.parametrize("made", [".config", "include/config", "arch/arm64/include/generated"])
def test_tree_built_in_place_is_refused(tmp_path: Path, made: str) -> None:
    """What the top Makefile would refuse for O= is refused first, with the way out."""
    tree = make_tree(tmp_path / "linux")
    (tree / made).mkdir(parents=True)
    with pytest.raises(UsageError, match="mrproper"):
        check_tree(tree)


def test_other_directories_are_no_trees(tmp_path: Path) -> None:
    """An arbitrary directory is not a kernel tree."""
    with pytest.raises(UsageError, match="not a Linux source tree"):
        check_tree(tmp_path)


@pytest.mark.parametrize(("cpus", "memory_gib", "jobs"), [(8, 64, 8), (8, 4, 4), (2, 64, 2), (8, 0, 1)])
def test_jobs_fit_memory(cpus: int, memory_gib: int, jobs: int) -> None:
    """One job per CPU, but no more than one per GiB, and at least one."""
    assert jobs_for(cpus, memory_gib << 30) == jobs
