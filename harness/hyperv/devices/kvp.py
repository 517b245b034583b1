"""Key-value pairs: the host asks a daemon in the guest, through its kernel (hv_kvp.c).

Without a daemon the kernel answers the first negotiation after 55 s (HV_UTIL_NEGO_TIMEOUT), and requests
with a failure.
"""

from __future__ import annotations

from typing import ClassVar, Final

from harness.hyperv.devices.integration import IntegrationService
from harness.hyperv.violation import Rule, Violated
from harness.hyperv.wire.integration import IcStatus, IcType, KvpExchange, KvpOperation
from harness.hyperv.wire.numbers import GuidOf

__all__ = ["Kvp"]

POOL_AUTO: Final = 2
"""KVP_POOL_AUTO: what the guest tells of itself."""
_MAX_ITEMS: Final = 64


class Kvp(IntegrationService):
    """`enumerate_pool` asks for all items of a pool; they are in `items` once `done`."""

    name = "kvp"
    TYPE = GuidOf.KVP
    MESSAGE: ClassVar = IcType.KVP_EXCHANGE
    VERSIONS: ClassVar = ((5, 0), (4, 0), (3, 0))

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, str] = {}
        self.done = False
        self.status = 0
        """Of the answer that ended the enumeration: IcStatus.CONT when it is complete."""
        self._pool = POOL_AUTO
        self._index = 0

    def enumerate_pool(self, pool: int = POOL_AUTO) -> bool:
        """Begin to ask for the items of a pool; False when the driver is not ready."""
        self.items, self.done, self._pool, self._index = {}, False, pool, 0
        return self._ask()

    def _ask(self) -> bool:
        return self.request(
            KvpExchange(operation=KvpOperation.ENUMERATE, pool=self._pool, index=self._index).pack()
        )

    def answered(self, status: int, body: bytes) -> None:
        """An item, or that there are no more."""
        if status != IcStatus.OK or self._index >= _MAX_ITEMS:
            self.status, self.done = status, True
            return
        item = KvpExchange.unpack(body)
        self.items[_text(item.key, item.key_bytes)] = _text(item.value, item.value_bytes)
        self._index += 1
        self._ask()


def _text(data: bytes, size: int) -> str:
    """UTF-16 with a zero at its end, which the size counts."""
    if size > len(data) or size % 2 or size < 2:
        raise Violated(Rule.DEVICE, f"a text of {size} bytes in a field of {len(data)}", Kvp.name)
    return data[: size - 2].decode("utf-16-le", "replace")
