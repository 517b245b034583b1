"""How a SCSI request ends, in storvsc's terms."""

from __future__ import annotations

from dataclasses import replace

from harness.hyperv.scsi import command as c
from harness.hyperv.scsi.command import Opcode, ScsiStatus, Sense
from harness.hyperv.scsi.disk import Answer
from harness.hyperv.scsi.inquiry import NO_UNIT_INQUIRY, luns
from harness.hyperv.wire.storvsc import SrbStatus, VmscsiRequest

__all__ = ["failed", "no_unit"]


def no_unit(cdb: bytes, room: int) -> Answer:
    """What a target without a unit says.

    Never INVALID_LUN: storvsc_remove_lun() takes the LUN away from channel 0, whichever path was asked.
    """
    if cdb[0] == Opcode.INQUIRY and not cdb[1] & 1:
        return Answer(data=NO_UNIT_INQUIRY[: min(int.from_bytes(cdb[3:5], "big"), room)])
    if cdb[0] == Opcode.REPORT_LUNS:
        return Answer(data=luns(())[:room])
    return Answer.check(c.NO_SUCH_UNIT)


def failed(request: VmscsiRequest, sense: Sense | None, srb_status: int) -> VmscsiRequest:
    """A request that failed, with sense data where there is some."""
    if sense is None:
        return replace(request, srb_status=srb_status, scsi_status=0, sense_length=0, transfer_bytes=0)
    data = sense.fixed()
    return replace(
        request, srb_status=srb_status | SrbStatus.AUTOSENSE_VALID, scsi_status=ScsiStatus.CHECK_CONDITION,
        sense_length=len(data), cdb=data, transfer_bytes=0,
    )  # fmt: skip
