"""What `granule doctor` looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import doctor
from harness.build.toolchain import require_programs
from harness.doctor import Condition, Symptom, examine
from harness.errors import InfraError
from harness.kernels.mirror import IndexTarget


def examined() -> dict[str, Symptom]:
    """All symptoms, by name."""
    return {symptom.what: symptom for symptom in examine()}


def test_every_program_of_a_kernel_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a kernel build would stop for is looked for, and mended with the package that the build names."""
    needed: list[str] = []
    require_programs(lambda program: needed.append(program) or program)  # type: ignore[func-returns-value]
    monkeypatch.setattr(doctor, "_which", lambda _program: None)
    found = examined()
    assert needed
    for program in (*needed, "sh", "tar", "e2fsck"):
        assert found[program].condition is Condition.LACKING, program
        assert found[program].mend.startswith("apt-get install "), program


def test_mirror_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror that kernels would come from is shown by its host only."""
    target = IndexTarget(
        origin="Debian", site="", release="bookworm", component="main", created_by="Packages",
        repo_uri="http://me:secret@mirror.invalid:8080/debian/", signed_by="",
    )  # fmt: skip
    monkeypatch.setattr(doctor, "host_mirror", lambda: target)
    symptom = examined()["apt sources"]
    assert symptom.condition is Condition.GOOD
    assert "mirror.invalid" in symptom.seen
    assert "secret" not in symptom.seen


def test_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose apt names no mirror cannot fetch kernels."""

    def none() -> IndexTarget:
        raise InfraError("this host's apt has no network source")

    monkeypatch.setattr(doctor, "host_mirror", none)
    symptom = examined()["apt sources"]
    assert (symptom.condition, symptom.seen) == (Condition.LACKING, "this host's apt has no network source")
    assert symptom.mend


def test_cache_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache behind a closed directory, or of an impossible name, is a symptom and no traceback."""
    exists = Path.exists

    def closed(path: Path) -> bool:
        if path.is_relative_to(tmp_path / "closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", closed)
    for root in (tmp_path / "closed/cache", tmp_path / ("x" * 300)):
        monkeypatch.setenv("GRANULE_CACHE", str(root))
        assert str(root) in examined()["cache"].seen
