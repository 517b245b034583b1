"""Tiny kernel trees: makefiles, Kconfig and a fake make that know of the same few options and objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.build.toolchain import Toolchain
from harness.kernels.kbuild.build import Build
from harness.weed.workbench import Workbench

Write = Callable[[str, str], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty kernel tree."""
    path = tmp_path / "linux"
    (path / "arch/arm64").mkdir(parents=True)
    return path


@pytest.fixture
def write(tree: Path) -> Write:
    """Writes a file of the tree."""

    def write(name: str, text: str) -> Path:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@dataclass
class Plan:
    """What a tiny tree holds, and how what is done with it is looked at."""

    tree: Path
    fakes: Path
    output: Path
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)

    def option(self, name: str, **has: Any) -> None:
        """An option: depends, selects, default, prompt (True unless said)."""
        self.options[name] = has

    def object(self, name: str, *needs: str, fails: str = "", **has: Any) -> None:
        """An object of an option, and how it fails."""
        self.objects[name] = {"needs": needs, "fails": fails, **has}

    def bench(self, config: Mapping[str, str] | None = None) -> Workbench:
        """Write the tree, and a bench with all its options on, or those given."""
        self._write()
        values = config if config is not None else dict.fromkeys(self.options, "y")
        base = "".join(f"CONFIG_{name}={value}\n" for name, value in values.items())
        return Workbench(build=self.build(), base=base)

    def build(self) -> Build:
        """A build of the tree with the fake make."""
        return Build(
            source=self.tree,
            output=self.output,
            toolchain=Toolchain(cc=("gcc",), prefix="", version="12"),
            ccache_dir=self.fakes,
            jobs=1,
            expected_steps=0,
            progress=lambda _done, _total, _what: None,
        )

    def calls(self) -> list[str]:
        """The targets of each make that was no olddefconfig."""
        lines = (self.fakes / "called").read_text().splitlines()
        return [line for line in lines if line != "olddefconfig"]

    def _write(self) -> None:
        spec = {"options": self.options, "objects": self.objects}
        (self.fakes / "tree.json").write_text(json.dumps(spec))
        kconfig = []
        for name, option in self.options.items():
            prompt = ' "words"' if option.get("prompt", True) else ""
            kconfig += [f"config {name}", f"\ttristate{prompt}"]
            kconfig += [f"\tdepends on {need}" for need in option.get("depends", ())]
            kconfig += [f"\tselect {target}" for target in option.get("selects", ())]
            if "default" in option:
                kconfig.append(f"\tdefault {option['default']}")
        (self.tree / "Kconfig").write_text("\n".join(kconfig) + "\n")
        makefiles: dict[str, list[str]] = {"": []}
        for name, its in self.objects.items():
            directory, _, file = name.rpartition("/")
            rules = makefiles.setdefault(directory, [])
            for need in its["needs"] or ("",):
                rules.append(f"obj-{f'$(CONFIG_{need})' if need else 'y'} += {file}")
        makefiles[""] = [f"obj-y += {directory}/" for directory in makefiles if directory]
        for directory, rules in makefiles.items():
            (self.tree / directory).mkdir(parents=True, exist_ok=True)
            name = "Makefile" if directory else "Kbuild"
            (self.tree / directory / name).write_text("\n".join(rules) + "\n")


@pytest.fixture
def plan(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A tiny tree to fill, with a fake make on PATH."""
    programs, fakes, output = (tmp_path / name for name in ("bin", "fakes", "output"))
    for path in (programs, fakes, output):
        path.mkdir()
    script = programs / "make"
    script.write_text(
        f'#!/bin/sh\nexec {sys.executable} -I -S {Path(__file__).with_name("fake_make.py")} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKES", str(fakes))
    (fakes / "called").touch()
    found = Plan(tree=tree, fakes=fakes, output=output)
    found.option("MODULES", default="y")
    return found
