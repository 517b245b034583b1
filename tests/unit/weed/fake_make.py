"""Stands for the kernel's `make -C TREE O=OUTPUT ... TARGET...`, with a kconfig and a compiler of its own.

$FAKES/tree.json says what there is: `options` (depends, selects, default, prompt) and `objects` (needs: the
options that have it built; fails: compile, link, modpost, machine or nothing; unless: an option with which it
does not fail). Two more ways to fail: `strict`, in modpost but only when not lenient; `whole`, as compile but
only where Image is built. $FAKES/called gets a line per call.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

FAKES = Path(os.environ["FAKES"])
SPEC: dict[str, Any] = json.loads((FAKES / "tree.json").read_text())
WORDS = sys.argv[1:]
OUTPUT = Path(next(word[2:] for word in WORDS if word.startswith("O=")))
TREE = WORDS[WORDS.index("-C") + 1]
TARGETS = [word for word in WORDS if "=" not in word and not word.startswith("-") and word != TREE]


def olddefconfig() -> None:
    """Last word wins; what nothing allows goes, what is selected comes."""
    asked: dict[str, str] = {}
    others: list[str] = []
    for line in (OUTPUT / ".config").read_text().splitlines():
        if found := re.fullmatch(r"CONFIG_(\w+)=([ym])|# CONFIG_(\w+) is not set", line):
            asked[found[1] or found[3]] = found[2] or "n"
        elif line and not line.startswith("#"):
            others.append(line)
    values = dict.fromkeys(SPEC["options"], "n")
    for _ in range(50):
        before = dict(values)
        for name, option in SPEC["options"].items():
            allowed = all(before[need] != "n" for need in option.get("depends", ()))
            default = option.get("default", "n")
            value = asked.get(name, default) if option.get("prompt", True) else default
            values[name] = value if allowed else "n"
            selectors = [other for other, its in SPEC["options"].items() if name in its.get("selects", ())]
            if any(before[other] != "n" for other in selectors) and values[name] == "n":
                values[name] = "y"
        if values == before:
            break
    lines = [f"CONFIG_{k}={v}" if v != "n" else f"# CONFIG_{k} is not set" for k, v in values.items()]
    (OUTPUT / ".config").write_text("\n".join([*lines, *others]) + "\n")


def is_on(option: str) -> bool:
    """By the configuration as it is."""
    return re.search(rf"^CONFIG_{option}=[ym]$", (OUTPUT / ".config").read_text(), re.MULTILINE) is not None


def failing(kind: str) -> list[str]:
    """The objects that are built and fail in that way."""
    return [
        name
        for name, its in SPEC["objects"].items()
        if its.get("fails") == kind
        and all(is_on(need) for need in its["needs"])
        and not any(is_on(option) for option in its.get("unless", ()))
    ]


def compile_objects() -> int:
    """Every object that is on and asked for."""
    status = 0
    for target in TARGETS:
        if target.endswith(".o") and not all(is_on(need) for need in SPEC["objects"][target]["needs"]):
            print(f"make[3]: *** No rule to make target '{target}'.  Stop.")
            status = 2
    for name, its in SPEC["objects"].items():
        asked = any(
            target in ("Image", "modules", "vmlinux", name)
            or (target.endswith("/") and name.startswith(target))
            for target in TARGETS
        )
        if not asked or not all(is_on(need) for need in its["needs"]):
            continue
        print(f"  CC      {name}")
        source = f"{TREE}/{name[:-2]}.c"
        if name in failing("machine"):
            print(f"{source}:1:1: fatal error: error writing to /tmp/x.s: No space left on device")
        elif name in failing("compile") + (failing("whole") if "Image" in TARGETS else []):
            print(f"{source}: In function 'probe':\n{source}:7:3: error: '{Path(name).stem}_x' undeclared")
        else:
            continue
        print(f"make[4]: *** [{TREE}/scripts/Makefile.build:229: {name}] Error 1")
        print(f"make[3]: *** [{TREE}/scripts/Makefile.build:478: {Path(name).parent}] Error 2")
        status = 2
    return status


def modpost() -> int:
    """Undefined symbols of modules: warnings where they were asked to be."""
    lenient = "KBUILD_MODPOST_WARN=1" in WORDS
    for name in failing("modpost") + ([] if lenient else failing("strict")):
        level = "WARNING" if lenient else "ERROR"
        print(f'{level}: modpost: "{Path(name).stem}_sym" [{name[:-2]}.ko] undefined!')
    if not lenient and failing("modpost") + failing("strict"):
        print(f"make[1]: *** [{TREE}/scripts/Makefile.modpost:145: Module.symvers] Error 1")
        return 2
    return 0


def link() -> int:
    """vmlinux."""
    print("  LD      .tmp_vmlinux1")
    for name in failing("link"):
        print(f"arm-ld: {name}: in function `start':")
        print(f"{Path(name).stem}.c:(.init.text+0x1c): undefined reference to `{Path(name).stem}_sym'")
    if failing("link"):
        print(f"make[2]: *** [{TREE}/scripts/Makefile.vmlinux:34: vmlinux] Error 1")
        return 2
    (OUTPUT / "arch/arm64/boot").mkdir(parents=True, exist_ok=True)
    (OUTPUT / "arch/arm64/boot/Image").write_text("image")
    (OUTPUT / "vmlinux").write_text("vmlinux")
    return 0


def main() -> int:
    """One call of make."""
    with (FAKES / "called").open("a") as file:
        file.write(" ".join(TARGETS) + "\n")
    if TARGETS == ["olddefconfig"]:
        olddefconfig()
        return 0
    status = compile_objects()
    if status == 0 and {"modules", "vmlinux", "Image"} & set(TARGETS):
        status = modpost() if "modules" in TARGETS else 0
        if status == 0 and {"vmlinux", "Image"} & set(TARGETS):
            status = link()
    if status:
        print("make: *** [Makefile:224: __sub-make] Error 2")
    return status


sys.exit(main())
