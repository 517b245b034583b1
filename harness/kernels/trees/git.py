"""Runs git, which reads mailboxes, patches and commits; nothing here writes to a repository.

Sources: git(1), ENVIRONMENT VARIABLES; git-rev-parse(1); git-archive(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import InfraError, ToolMissing, UsageError
from harness.guarded import guarded

__all__ = ["archived", "commit_of", "git", "require_git", "said", "top_of"]

_BLOCK_BYTES = 1 << 20
_SAID_BYTES = 2000
# Of a hook or a rebase that we may run under: they name another repository than the one asked for.
_FOREIGN_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
)


def require_git() -> None:
    """Raise ToolMissing where there is no git."""
    if shutil.which("git") is None:
        raise ToolMissing("git", package="git")


def git(
    *arguments: str, cwd: Path, stdin: bytes = b"", outside: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run a git command to its end; whoever calls judges its status.

    `outside`: take no notice of repositories around `cwd`, nor of anybody's configuration, so that the result
    depends on the input alone.
    """
    require_git()
    return subprocess.run(
        guarded(("git", *arguments)),
        cwd=cwd,
        env=_environment(cwd if outside else None),
        input=stdin,
        capture_output=True,
        check=False,
    )


def commit_of(repository: Path, ref: str) -> str:
    """The full id of the commit that a ref, tag or expression such as `HEAD~3` means.

    Raises UsageError where there is no such commit, or no repository.
    """
    ran = git("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}", cwd=repository)
    commit = ran.stdout.decode("ascii", "replace").strip()
    if ran.returncode == 0 and len(commit) >= 40:
        return commit
    raise UsageError(
        f"'{ref[:200]}' is no commit of the git repository {repository}: git said: {said(ran.stderr)}"
    )


def top_of(directory: Path) -> Path | None:
    """The top of the work tree around a directory, or a bare repository itself; None outside of any.

    git archive leaves out what does not lie under the directory it runs in.
    """
    if git("rev-parse", "--git-dir", cwd=directory).returncode != 0:
        return None
    ran = git("rev-parse", "--show-toplevel", cwd=directory)
    top = ran.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
    return Path(top) if ran.returncode == 0 and top else directory


@contextmanager
def archived(repository: Path, commit: str) -> Iterator[Iterator[bytes]]:
    """The files of a commit as blocks of a tar archive (git-archive): no index, work tree or ref is made.

    The stream raises InfraError where git fails.
    """
    require_git()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            guarded(("git", "archive", "--format=tar", commit)),
            cwd=repository,
            env=_environment(None),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )
        assert process.stdout is not None  # noqa: S101 - asked for with PIPE

        def blocks() -> Iterator[bytes]:
            assert process.stdout is not None  # noqa: S101
            while block := process.stdout.read(_BLOCK_BYTES):
                yield block
            if process.wait() != 0:
                errors.seek(0)
                raise InfraError(
                    f"git archive of {commit[:12]} in {repository} failed with status {process.returncode}: "
                    f"{said(errors.read(_SAID_BYTES))}"
                )

        try:
            yield blocks()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _environment(alone_in: Path | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    # Reading must not refresh the index of a repository, nor fetch what a partial clone lacks.
    kept |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
    if alone_in is not None:
        kept |= {
            "GIT_CEILING_DIRECTORIES": str(alone_in.resolve().parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
    return kept


def said(stderr: bytes) -> str:
    """What git printed, as one line of bounded length."""
    text = stderr[:_SAID_BYTES].decode("utf-8", "replace")
    return " ".join(text.split()) or "nothing"
