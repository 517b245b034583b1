"""Geometry against the tables that the manual prints."""

from __future__ import annotations

import pytest

from harness.vmsa.geometry import Geometry

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40

# What one entry maps, by granule and level.
SIZES = [
    (12, {-1: 256 * T, 0: 512 * G, 1: G, 2: 2 * M, 3: 4 * K}),
    (14, {0: 128 * T, 1: 64 * G, 2: 32 * M, 3: 16 * K}),
    (16, {1: 4 * T, 2: 512 * M, 3: 64 * K}),
]

# Granule, bits of input address: start level, entries of the first table.
STARTS = [
    (12, 39, 1, 512),
    (12, 48, 0, 512),
    (12, 52, -1, 16),
    (14, 36, 2, 2048),
    (14, 47, 1, 2048),
    (14, 48, 0, 2),
    (14, 52, 0, 32),
    (16, 42, 2, 8192),
    (16, 48, 1, 64),
    (16, 52, 1, 1024),
    # The smallest address spaces, with and without FEAT_TTST.
    (12, 25, 2, 16),
    (14, 25, 3, 2048),
    (16, 25, 3, 512),
    (12, 16, 3, 16),
    (14, 16, 3, 4),
    (16, 17, 3, 2),
]

# Bytes of a contiguous group; levels that are not here ignore the bit.
GROUPS = [
    (12, {1: 16 * G, 2: 32 * M, 3: 64 * K}),
    (14, {2: G, 3: 2 * M}),
    (16, {2: 16 * G, 3: 2 * M}),
]

# Levels of legal blocks without and with 52-bit addresses.
BLOCKS = [(12, {1, 2}, {0, 1, 2}), (14, {2}, {1, 2}), (16, {2}, {1, 2})]


@pytest.mark.parametrize(("granule", "sizes"), SIZES)
def test_entry_sizes(granule: int, sizes: dict[int, int]) -> None:
    """An entry maps what the manual says at every level."""
    geometry = Geometry(granule_log2=granule)
    assert {level: 1 << geometry.size_log2(level) for level in sizes} == sizes


@pytest.mark.parametrize(("granule", "iasize", "level", "entries"), STARTS)
def test_start_levels(granule: int, iasize: int, level: int, entries: int) -> None:
    """Start level and size of the first table, by address size."""
    geometry = Geometry(granule_log2=granule)
    assert geometry.start_level(iasize) == level
    assert 1 << geometry.start_bits(iasize) == entries
    assert 1 << geometry.start_table_log2(iasize) == 8 * entries


@pytest.mark.parametrize("granule", [12, 14, 16])
def test_every_address_size_fits_its_levels(granule: int) -> None:
    """From the smallest to the largest TxSZ the first table has 2 entries to a full table's."""
    geometry = Geometry(granule_log2=granule)
    for iasize in range(granule + 1, 53):
        assert -1 <= geometry.start_level(iasize) <= 3
        assert 1 <= geometry.start_bits(iasize) <= geometry.stride_bits


@pytest.mark.parametrize(("granule", "groups"), GROUPS)
def test_contiguous_groups(granule: int, groups: dict[int, int]) -> None:
    """The contiguous group of every level, and the levels that have none."""
    geometry = Geometry(granule_log2=granule)
    for level in range(-1, 4):
        count = 1 << geometry.contiguous_log2(level)
        assert count * (1 << geometry.size_log2(level)) == groups.get(level, 1 << geometry.size_log2(level))


@pytest.mark.parametrize(("granule", "narrow", "wide"), BLOCKS)
def test_block_levels(granule: int, narrow: set[int], wide: set[int]) -> None:
    """Blocks are legal where the manual allows them and nowhere else."""
    geometry = Geometry(granule_log2=granule)
    assert {level for level in range(-1, 4) if geometry.block_allowed(level, wide=False)} == narrow
    assert {level for level in range(-1, 4) if geometry.block_allowed(level, wide=True)} == wide


def test_indices_cut_the_address_into_disjoint_fields() -> None:
    """The indices of a walk and the page offset together are the address."""
    geometry = Geometry(granule_log2=12)
    va = 0x0000_1234_5678_9ABC
    indices = [va >> 39 & 511, va >> 30 & 511, va >> 21 & 511, va >> 12 & 511]
    assert geometry.start_index(va, 48) == indices[0]
    assert [geometry.index(va, level) for level in range(4)] == indices
    # An upper address: bits above the range take no part.
    assert geometry.start_index(va | 0xFFFF << 48, 48) == indices[0]
    assert Geometry(granule_log2=12).start_index(0xFFF5_0000_0000_0000, 52) == 5


def test_descriptor_size_is_a_parameter() -> None:
    """With 16-byte descriptors a level resolves one bit less."""
    geometry = Geometry(granule_log2=12, desc_log2=4)
    assert [1 << geometry.size_log2(level) for level in range(4)] == [64 * G, 256 * M, M, 4 * K]
    assert (geometry.start_level(48), geometry.start_table_log2(48)) == (-1, 8)


@pytest.mark.parametrize(("granule", "desc"), [(13, 3), (0, 3), (12, 2)])
def test_sizes_that_do_not_exist_are_refused(granule: int, desc: int) -> None:
    """There are three granules and two sizes of descriptor."""
    with pytest.raises(ValueError, match="bytes, not"):
        Geometry(granule_log2=granule, desc_log2=desc)
