"""A series as people have it: mail with all that mail does to text, and ranges of commits."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.series.reading import read_given

SERIES = Path(__file__).parents[2] / "series/series.mbox"
DIFF = "--- a/mm/{name}.c\n+++ b/mm/{name}.c\n@@ -1 +1 @@\n-old\n+new\n"


def mail(tag: str, *, name: str = "a", headers: str = "", body: str | None = None) -> str:
    """One message of a mailbox."""
    text = f"Why.\n---\n{DIFF.format(name=name)}" if body is None else body
    return (
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
        f"From: A <a@example.org>\nSubject: [PATCH {tag}] change {tag}\n{headers}\n{text}\n"
    )


def mbox(directory: Path, *mails: str) -> str:
    """A mailbox of them."""
    path = directory / "series.mbox"
    path.write_text("".join(mails))
    return str(path)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with three commits on a base, whose owner has his diffs shown in his own way."""
    top = tmp_path / "repository"
    top.mkdir()

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words],
            cwd=top, check=True, capture_output=True,
        )  # fmt: skip

    git("init", "-q", "-b", "main")
    for name, value in (("diff.noprefix", "true"), ("diff.external", "false"), ("diff.renames", "copies")):
        git("config", name, value)
    (top / "a.c").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "base")
    git("tag", "base")
    for number in (1, 2):
        (top / "a.c").write_text(f"one\n{number}\n")
        git("commit", "-qam", f"change {number}")
    git("mv", "a.c", "b.c")
    git("commit", "-qm", "move")
    return top


def test_encodings_attachments_and_cover_letters() -> None:
    """Base64, quoted-printable, another character set, an attachment and a cover letter give ten diffs."""
    patches = read_given(str(SERIES)).patches
    assert [patch.number for patch in patches] == list(range(1, 11))
    assert patches[2].author.startswith("Zoë Müller")
    assert b"BUILD_BUG_ON(PAGE_SIZE > SZ_16K);" in patches[2].diff  # base64
    assert b"min_t(unsigned long, PAGE_SIZE, SZ_16K)" in patches[5].diff  # quoted-printable
    assert patches[7].files == ("drivers/scsi/storvsc_drv.c",)  # attached


def test_line_ends_of_mail(tmp_path: Path) -> None:
    """Carriage returns that mail brought are not part of the patch."""
    text = mail("1/1").replace("\n", "\r\n")
    (tmp_path / "series.mbox").write_bytes(text.encode())
    assert b"\r" not in read_given(str(tmp_path / "series.mbox")).patches[0].diff


def test_attached_as_binary(tmp_path: Path) -> None:
    """A patch that a mailer sent as an attachment of text is found."""
    packed = base64.b64encode(f"---\n{DIFF.format(name='a')}".encode()).decode()
    body = (
        "--x\nContent-Type: text/plain\n\nWhy.\n\n--x\nContent-Type: text/x-diff\n"
        f"Content-Disposition: attachment\nContent-Transfer-Encoding: base64\n\n{packed}\n--x--\n"
    )
    headers = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="x"\n'
    (patch,) = read_given(mbox(tmp_path, mail("1/1", headers=headers, body=body))).patches
    assert patch.files == ("mm/a.c",)


def test_missing_one(tmp_path: Path) -> None:
    """The number that is missing is named before anything is applied."""
    with pytest.raises(UsageError, match="of 3 patches 1 are missing: number 2"):
        read_given(mbox(tmp_path, mail("1/3"), mail("3/3")))


def test_one_of_many(tmp_path: Path) -> None:
    """One mail alone is what a check command is given, and is taken for what it is."""
    assert read_given(mbox(tmp_path, mail("2/3"))).patches[0].number == 2


def test_out_of_order(tmp_path: Path) -> None:
    """Mails in another order than their numbers are refused, in one mailbox and in a directory of mails."""
    with pytest.raises(UsageError, match="not in order"):
        read_given(mbox(tmp_path, mail("2/2"), mail("1/2")))
    (tmp_path / "series.mbox").unlink()
    (tmp_path / "1.patch").write_text(mail("2/2"))
    (tmp_path / "2.patch").write_text(mail("1/2"))
    with pytest.raises(UsageError, match="out of order: 2, 1"):
        read_given(str(tmp_path))


def test_two_versions(tmp_path: Path) -> None:
    """A number that is there twice is two versions in one mailbox."""
    (tmp_path / "1.patch").write_text(mail("1/2"))
    (tmp_path / "2.patch").write_text(mail("v2 1/2"))
    with pytest.raises(UsageError, match="number 1 of 2 is there twice"):
        read_given(str(tmp_path))


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", ".git/config", "mm/../../x"])
def test_paths_outside_of_the_tree(tmp_path: Path, path: str) -> None:
    """A patch that would leave the tree is refused."""
    diff = f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-old\n+new\n"
    with pytest.raises(UsageError, match="not a path inside a source tree"):
        read_given(mbox(tmp_path, mail("1/1", body=f"Why.\n---\n{diff}")))


def test_stdin() -> None:
    """A dash is a mailbox on stdin."""
    assert len(read_given("-", SERIES.read_bytes()).patches) == 10


def test_range(repository: Path) -> None:
    """Commits are patches in their order, with their base, whatever the owner has configured for diffs."""
    given = read_given(f"{repository}@base..HEAD")
    assert [patch.subject for patch in given.patches] == ["change 1", "change 2", "move"]
    assert [patch.files for patch in given.patches] == [("a.c",), ("a.c",), ("a.c", "b.c")]
    assert all(b"a/a.c" in patch.diff for patch in given.patches)
    repository_name, _at, commit = given.base.rpartition("@")
    assert (repository_name, len(commit)) == (str(repository), 40)


def test_range_leaves_the_repository_alone(repository: Path) -> None:
    """Neither index, work tree nor refs change."""

    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in repository.rglob("*")
            if path.is_file()
        }  # fmt: skip

    before = state()
    read_given(f"{repository}@base..HEAD")
    assert state() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("HEAD..base", "holds no commit"),
        ("base...HEAD", "two dots"),
        ("nonsense..HEAD", "no commit of the git repository"),
    ],
)
def test_ranges_that_are_none(repository: Path, text: str, said: str) -> None:
    """What is wrong with a range is told."""
    with pytest.raises(UsageError, match=said):
        read_given(f"{repository}@{text}")


def test_merges_are_refused(repository: Path) -> None:
    """A merge is no patch."""

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words],
            cwd=repository, check=True, capture_output=True,
        )  # fmt: skip

    git("checkout", "-qb", "side", "base")
    git("commit", "-q", "--allow-empty", "-m", "side")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "side")
    with pytest.raises(UsageError, match="holds merges"):
        read_given(f"{repository}@base..main")


def test_neither_file_nor_range() -> None:
    """What is neither is told what was wanted."""
    with pytest.raises(UsageError, match="neither a mailbox nor a directory"):
        read_given("nonsense")
