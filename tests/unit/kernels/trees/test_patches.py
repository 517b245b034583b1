"""Reading patch series, from mail that git itself has made."""

from __future__ import annotations

import base64
import quopri
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels.trees import patches
from harness.kernels.trees.patches import read_all_series, read_series, series_digest

DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-a\n+b\n"


def git(repository: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True, text=True)
    return ran.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a base and three commits on top of it."""
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    git(path, "config", "user.name", "Jürgen Größe")
    git(path, "config", "user.email", "j@example.org")
    (path / "f.c").write_text("one\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "base")
    for number, subject in enumerate(
        (
            "mm: first",
            "mm: größer, and a subject so long that mail has to fold it somewhere in the middle",
            "mm: third",
        ),
        start=1,
    ):
        (path / "f.c").write_text("one\n" + "more\n" * number)
        git(path, "commit", "-qam", f"{subject}\n\nWhy: [PATCH 9/9] is no number here.\n>From the manual.")
    return path


def test_mailbox_of_format_patch(repository: Path, tmp_path: Path) -> None:
    """Order, subjects unfolded and decoded, author, body and files; the cover letter is left out."""
    box = tmp_path / "series.mbox"
    box.write_text(git(repository, "format-patch", "--cover-letter", "--stdout", "HEAD~3"))
    series = read_series(box)
    assert [patch.number for patch in series] == [1, 2, 3]
    assert series[1].subject == (
        "mm: größer, and a subject so long that mail has to fold it somewhere in the middle"
    )
    assert {patch.author for patch in series} == {"Jürgen Größe <j@example.org>"}
    assert all(patch.files == ("f.c",) for patch in series)
    assert series[0].body.startswith("Why: [PATCH 9/9] is no number here.")
    assert "diff --git" not in series[0].body
    assert series[2].name == "series.mbox, message 4"


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_what_mail_does_to_text_is_undone(repository: Path, tmp_path: Path, encoding: str) -> None:
    """A diff that came encoded is the diff that was sent."""
    plain = git(repository, "format-patch", "--stdout", "-1", "HEAD~1")
    head, body = plain.split("\n\n", 1)
    head = "\n".join(line for line in head.splitlines() if "Transfer-Encoding" not in line)
    data = body.encode()
    packed = base64.encodebytes(data) if encoding == "base64" else quopri.encodestring(data)
    mail = tmp_path / "one.eml"
    mail.write_bytes(f"{head}\nContent-Transfer-Encoding: {encoding}\n\n".encode() + packed)
    direct = tmp_path / "plain.mbox"
    direct.write_text(plain)
    assert read_series(mail)[0].sha256 == read_series(direct)[0].sha256


def test_plain_diff(repository: Path, tmp_path: Path) -> None:
    """A diff without any mail around it is a series of one, called after its file."""
    path = tmp_path / "fix.diff"
    path.write_text(git(repository, "diff", "HEAD~1"))
    (patch,) = read_series(path)
    assert (patch.subject, patch.author, patch.number) == ("fix.diff", "", None)


def test_answers_are_left_out(tmp_path: Path) -> None:
    """In a thread, an answer with a diff of its own is not part of the series."""
    start = "From x Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: "
    path = tmp_path / "thread"
    path.write_text(
        f"{start}[PATCH 1/2] one\n\n---\n{DIFF.format('one.c')}\n"
        f"{start}Re: [PATCH 1/2] one\n\nRather:\n{DIFF.format('no.c')}\n"
        f"{start}[PATCH 2/2] two\n\n---\n{DIFF.format('two.c')}\n"
    )
    assert [patch.subject for patch in read_series(path)] == ["one", "two"]


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1)])
def test_mail_out_of_order_is_refused(tmp_path: Path, numbers: tuple[int, int]) -> None:
    """Numbers that go back, or come twice as those of two versions do, are told, with the way out."""
    start = "From x Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: "
    path = tmp_path / "box"
    path.write_text("".join(f"{start}[PATCH v2 {n}/2] s\n\n---\n{DIFF.format('x')}\n" for n in numbers))
    with pytest.raises(UsageError, match=r"is not in order: .*b4 am"):
        read_series(path)


def test_quilt_directory_goes_by_its_series(tmp_path: Path) -> None:
    """The file `series` gives the order; comments, blanks and -p1 are fine; other files are not patches."""
    for name in ("a.patch", "b.patch", "sub/c.patch", "unlisted.patch"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"From: Q <q@r>\nSubject: {name}\n\nwhy\n---\n{DIFF.format(name)}")
    (tmp_path / "series").write_text("# the order\n\nsub/c.patch -p1\nb.patch # last but one\na.patch\n")
    assert [patch.subject for patch in read_series(tmp_path)] == ["sub/c.patch", "b.patch", "a.patch"]


def test_directory_without_series_is_sorted(tmp_path: Path) -> None:
    """Without a `series` file the names of *.patch give the order."""
    for name in ("0002-b.patch", "0001-a.patch", "notes.txt"):
        (tmp_path / name).write_text(DIFF.format(name))
    assert [patch.name for patch in read_series(tmp_path)] == ["0001-a.patch", "0002-b.patch"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x.patch -p0", "line 1 of .*series: '-p0': patches are applied with -p1"),
        ("x.patch -R", "-p1 and nothing else"),
        ("../x.patch", "lies outside of"),
        ("/etc/passwd", "lies outside of"),
        ("gone.patch", "there is no file .*gone.patch"),
        ("# nothing", "lists no patch"),
    ],
)
def test_bad_series_file_is_refused(tmp_path: Path, line: str, said: str) -> None:
    """What quilt could do and we do not, and what is not there, is named with its line."""
    (tmp_path / "series").write_text(f"{line}\n")
    (tmp_path / "x.patch").write_text(DIFF.format("x"))
    with pytest.raises(UsageError, match=said):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no patch"),
        (b"Subject: hello\n\nno diff here\n", "holds no patch"),
        (b"\x1f\x8b\x08 packed", "compressed; unpack it first"),
        (b"\0\1\2", "holds no patch"),
        (DIFF.format("x").encode()[:-3], "cut short"),
        (DIFF.format("../../x").encode(), "not a path inside a source tree .*nothing was applied"),
    ],
)
def test_file_that_is_no_series_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Nothing, prose, a packed or binary file, half a patch, and a path that leaves the tree."""
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_series(path)


def test_absent_and_empty_places_are_refused(tmp_path: Path) -> None:
    """A path that is not there, and a directory without patches."""
    with pytest.raises(UsageError, match="does not exist"):
        read_series(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"neither a `series` file nor any \*\.patch"):
        read_series(tmp_path)


def test_series_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More text than any series has is refused, over all files of a directory together."""
    monkeypatch.setattr(patches, "MAX_SERIES_BYTES", 100)
    for name in ("a.patch", "b.patch"):
        (tmp_path / name).write_text(DIFF.format("x"))
    with pytest.raises(UsageError, match="no series is that long"):
        read_series(tmp_path)


def test_digest_is_of_the_diffs_in_order(tmp_path: Path) -> None:
    """Another order or another diff is another series; another subject is not."""
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    one.write_text(DIFF.format("one"))
    two.write_text(DIFF.format("two"))
    other.write_text(f"From: A <a@b>\nSubject: named\n\nwhy\n\n{DIFF.format('one')}")
    digest = series_digest(read_all_series((one, two)))
    assert digest != series_digest(read_all_series((two, one)))
    assert digest != series_digest(read_all_series((one,)))
    assert digest == series_digest(read_all_series((other, two)))


def test_no_repository_around_is_asked(repository: Path) -> None:
    """Reading patches inside a repository leaves that repository as it was."""
    box = repository / "s.mbox"
    box.write_text(git(repository, "format-patch", "--stdout", "-1"))
    before = git(repository, "status", "--porcelain")
    read_series(box)
    assert git(repository, "status", "--porcelain") == before
