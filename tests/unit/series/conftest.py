"""The kernel files and fakes of the tests of kernels."""

from tests.unit.kernels.conftest import cache, fakes, make_image

__all__ = ["cache", "fakes", "make_image"]
