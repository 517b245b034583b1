"""Where the project's own data lies: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InfraError

__all__ = ["data_dir"]


def data_dir(name: str) -> Path:
    """The directory `guests` or `kernel-configs`; raises InfraError when the installation lacks it."""
    package = Path(__file__).resolve().parent
    for candidate in (package.parent / name, package / "_data" / name):
        if candidate.is_dir():
            return candidate
    raise InfraError(f"this installation of granule lacks its {name}/ directory (looked beside {package})")
