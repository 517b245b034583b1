"""A process of its own that builds a tree, to be ended by test_source.py.

usage: tree_builder.py CACHE CATALOGUE TREE

Ctrl-C reaches it whatever it inherited.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from harness.build.toolchain import Toolchain
from harness.cache import Cache
from harness.kernels import source
from harness.kernels.catalogue import Catalogue


def toolchain() -> Toolchain:
    """No compiler is needed: make is a fake."""
    return Toolchain(cc=("gcc",), prefix="", version="12")


# A shell that starts tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
source._toolchain = toolchain
catalogue = Catalogue.load(Path(sys.argv[2]))
with Cache(Path(sys.argv[1])) as cache:
    source.SourceKernels(cache, catalogue).build_tree(catalogue.find("small-4k"), Path(sys.argv[3]))
