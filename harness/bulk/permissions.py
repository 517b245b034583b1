"""Who may do what, leaf by leaf: the answers of `harness.vmsa.permissions`, looked up.

Rights depend on a few bits of a leaf and on what its tables handed down, and a table has few combinations of
those: the specification is asked once for each that occurs, whatever the regime has (indirect permissions and
overlays too), so there is nothing here that could disagree with it but the choice of bits.
May import NumPy and `harness.vmsa` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bulk.columns import Bools, Small
from harness.bulk.leaves import Leaves
from harness.vmsa import access
from harness.vmsa.access import Right
from harness.vmsa.regime import Regime

__all__ = ["Rights", "permissions"]

# Bits of a leaf that rights depend on, as shift to the right and mask: AP (PIIndex[0] and nDirty), then DBM,
# PXN and UXN (PIIndex[3:1]), then POIndex. Table attributes are above them.
_FIELDS: Final = ((6, 0b11), (49, 0b110100), (54, 0b111000000))
_TABLES_SHIFT: Final = 9
_COMBINATIONS: Final = 1 << _TABLES_SHIFT + 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rights:
    """Rights to each leaf, as values of `harness.vmsa.Right`."""

    privileged: Small
    """Of EL1; of EL2 in a host."""
    user: Small

    def privileged_may(self, right: Right) -> Bools:
        """Where privileged software has all of some rights."""
        return _all_of(self.privileged, right)

    def user_may(self, right: Right) -> Bools:
        """Where unprivileged software has all of some rights."""
        return _all_of(self.user, right)


def _all_of(granted: Small, right: Right) -> Bools:
    wanted = np.uint8(right.value)
    has_all: Bools = granted & wanted == wanted
    return has_all


def permissions(regime: Regime, leaves: Leaves, *, pan: bool = False) -> Rights:
    """The rights of EL1 (EL2 in a host) and EL0 to each leaf; arguments as for `harness.vmsa.permissions`."""
    index = _combinations(leaves)
    example = np.full(_COMBINATIONS, -1, np.intp)
    example[index] = np.arange(len(leaves))
    privileged, user = np.zeros(_COMBINATIONS, np.uint8), np.zeros(_COMBINATIONS, np.uint8)
    for combination in np.flatnonzero(example >= 0).tolist():
        one = leaves[example[combination]]
        rights = access.permissions(regime, one.leaf, one.inherited, pan=pan)
        privileged[combination], user[combination] = rights.privileged.value, rights.user.value
    return Rights(privileged=privileged[index], user=user[index])


def _combinations(leaves: Leaves) -> NDArray[np.uint16]:
    """What rights depend on, as a number below _COMBINATIONS."""
    index = leaves.inherited.astype(np.uint16) << np.uint16(_TABLES_SHIFT)
    for shift, mask in _FIELDS:
        index |= (leaves.word >> np.uint64(shift)).astype(np.uint16) & np.uint16(mask)
    return index
