"""Single pages of 4 KiB that a guest names: SynIC's, the bus's, the crash report's."""

from __future__ import annotations

from typing import Final

from harness.hyperv import pagemodel as model
from harness.hyperv.checker.tally import Tally
from harness.hyperv.memory import GuestMemory
from harness.hyperv.violation import Violated
from harness.hyperv.wire import messages as m
from harness.hyperv.wire.messages import MessageType
from harness.hyperv.wire.numbers import Register, VmbusVersion

__all__ = ["PageRules"]

_PAGE_REGISTERS: Final = (Register.SIMP, Register.SIEFP)
_CRASH_NOTIFY_MESSAGE: Final = 1 << 62


class PageRules:
    """The rules vmbus.pages, synic.pages and crash.page."""

    def __init__(self, tally: Tally, page_bytes: int, memory: GuestMemory) -> None:
        self._tally = tally
        self._page = page_bytes
        self._memory = memory
        self._pages: dict[tuple[int, int], int] = {}
        """The page that each register of each processor names."""
        self._crash: dict[tuple[int, int], int] = {}

    def registered(self, vp: int, register: int, value: int) -> None:
        """A processor set a register."""
        if register in _PAGE_REGISTERS:
            self._synic_page(vp, register, value)
        elif register in (Register.CRASH_P3, Register.CRASH_P4):
            self._crash[vp, register] = value
        elif register == Register.CRASH_CTL and value & _CRASH_NOTIFY_MESSAGE:
            self._crash_page(vp)

    def _synic_page(self, vp: int, register: int, value: int) -> None:
        if not value & 1:
            self._pages.pop((vp, register), None)
            return
        page = value // model.HV_PAGE
        others = [key for key, other in self._pages.items() if other == page and key != (vp, register)]
        self._pages[vp, register] = page
        ram = self._memory.has_page(page)
        shared = f", which {Register(others[0][1]).name} of VP {others[0][0]} is too" if others else ""
        self._tally.holds(
            "synic.pages", f"{Register(register).name} of VP {vp}", ram and not others,
            f"page number {page:#x} is {'RAM' if ram else 'not RAM'}{shared}", "a page of RAM of its own",
        )  # fmt: skip

    def _crash_page(self, vp: int) -> None:
        page, size = (self._crash.get((vp, each), 0) for each in (Register.CRASH_P3, Register.CRASH_P4))
        if not size:
            return
        ram = self._memory.has_page(page // model.HV_PAGE)
        self._tally.holds(
            "crash.page", f"VP {vp}", ram and page % model.HV_PAGE == 0 and size <= model.HV_PAGE,
            f"{size} bytes at {page:#x}{'' if ram else ', which is not RAM'}", "4096 at most, of one page",
        )  # fmt: skip

    def message(self, payload: bytes, *, from_guest: bool) -> None:
        """INITIATE_CONTACT names the pages of the bus."""
        try:
            if not from_guest or m.message_type(payload) is not MessageType.INITIATE_CONTACT:
                return
            contact = m.InitiateContact.of(payload)
        except Violated:
            return
        pages = [contact.monitor_page1, contact.monitor_page2]
        if contact.version < VmbusVersion.V5_0:
            pages.append(contact.interrupt_page)
        ram = all(self._memory.has_page(page // model.HV_PAGE) for page in pages)
        aligned = all(page % self._page == 0 for page in pages)
        self._tally.holds(
            "vmbus.pages", "INITIATE_CONTACT", ram and aligned and len(set(pages)) == len(pages),
            ", ".join(f"{page:#x}" for page in pages) + ("" if ram else ", not all of them RAM"),
            f"pages of RAM that differ, at multiples of {self._page:#x}",
        )  # fmt: skip
