"""The layers of the package, held: a module imports from its own layer or a lower one."""

from __future__ import annotations

import ast
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent

# From the bottom. A layer may import those before it, and itself.
LAYERS = (
    {"errors", "deadline", "spec", "verdict", "paths", "cache", "reading", "saving", "guarded"}
    | {"determinism"},
    {"vmsa"},
    {"linux"},
    {"bulk"},
    {"kernels", "build", "weed"},
    {"channel", "memory"},
    {"hyperv"},
    {"snapshot"},
    {"check"},
    {"qemu"},
    {"rig", "login", "guests"},
    {"smoke"},
    {"kselftest"},
    {"matrix"},
    {"kexec", "trial"},
    {"report", "tables", "series"},
    {"bench"},
    {"doctor", "cli", "pytest_plugin"},
    {"entry"},
)

# Libraries with one home each, so that another could take their place.
ONE_FILE = {
    "pexpect": "channel/shell.py",
    "qemu": "channel/qmp.py",
    "paramiko": "channel/ssh.py",
    "cryptography": "channel/ssh_key.py",
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def _modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_layers() -> None:
    """No module imports from a layer above its own."""
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for path in _modules():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for imported in _imports(path):
            root, _, rest = imported.partition(".")
            if root == "harness" and rest and height[rest.split(".")[0]] > height[own]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_layer() -> None:
    """A new package or module is given its place in the table above."""
    known = {name for layer in LAYERS for name in layer}
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in _modules()}
    assert found == known


def test_libraries_with_one_home() -> None:
    """pexpect, qemu.qmp, paramiko and cryptography are imported in one file each."""
    wrong = []
    for path in _modules():
        place = path.relative_to(PACKAGE).as_posix()
        for library in {name.partition(".")[0] for name in _imports(path)} & ONE_FILE.keys():
            if ONE_FILE[library] != place:
                wrong.append(f"{place} imports {library}")
    assert not wrong, "\n".join(wrong)
