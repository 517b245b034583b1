"""The selector's portable parts (guests/selector), compiled for this machine with sanitizers."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.paths import data_dir

PARTS = ("choose.c", "crc32.c", "fdt.c", "lz4.c", "table.c")

Ask = Callable[[str, bytes], str]


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Puts a request of selector_host.c and returns its answer; a sanitizer's report fails the test."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc")
    sources = data_dir("guests") / "selector"
    program = tmp_path_factory.mktemp("selector") / "selector"
    flags = ("-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all")
    files = [Path(__file__).with_name("selector_host.c"), *(sources / part for part in PARTS)]
    subprocess.run(
        ["gcc", *flags, "-fsanitize=address,undefined", f"-I{sources}", "-o", program, *files], check=True
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([program], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def put(what: str, data: bytes) -> str:
            requests.write(what.encode() + struct.pack("=I", len(data)) + data)
            requests.flush()
            line = answers.readline()
            assert line, process.communicate()[1].decode()
            return line.decode().strip()

        yield put
