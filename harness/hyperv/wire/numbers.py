"""Numbers of the hypervisor's interface: GUIDs, registers, status codes.

Sources: Microsoft's Hypervisor Top-Level Functional Specification (TLFS); Linux include/linux/hyperv.h,
include/asm-generic/hyperv-tlfs.h, arch/arm64/include/asm/hyperv-tlfs.h, drivers/hv/hyperv_vmbus.h.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final
from uuid import UUID

__all__ = ["GuidOf", "HypercallCode", "MessageConnection", "Register", "Status", "VmbusVersion"]


class GuidOf:
    """Interface types of devices (include/linux/hyperv.h, HV_*_GUID)."""

    HEARTBEAT: Final = UUID("57164f39-9115-4e78-ab55-382f3bd5422d")
    TIME_SYNC: Final = UUID("9527e630-d0ae-497b-adce-e80ab0175caf")
    SHUTDOWN: Final = UUID("0e0b6031-5213-4934-818b-38d90ced39db")
    KVP: Final = UUID("a9a0f4e7-5a45-4d96-b827-8a841e8c03e6")
    VSS: Final = UUID("35fa2e29-ea23-4236-96ae-3a6ebacba440")
    SCSI: Final = UUID("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")
    NETWORK: Final = UUID("f8615163-df3e-46c5-913f-f2d2f965ed0e")
    BALLOON: Final = UUID("525074dc-8985-46e2-8057-a307dc18a502")


class VmbusVersion(IntEnum):
    """Protocol versions, major in the upper half (include/linux/hyperv.h, VERSION_*)."""

    V2_4 = 2 << 16 | 4
    V3_0 = 3 << 16
    V4_0 = 4 << 16
    V4_1 = 4 << 16 | 1
    V5_0 = 5 << 16
    V5_1 = 5 << 16 | 1
    V5_2 = 5 << 16 | 2
    V5_3 = 5 << 16 | 3

    @property
    def label(self) -> str:
        """As Linux prints it: 5.3."""
        return f"{self >> 16}.{self & 0xFFFF}"


class HypercallCode(IntEnum):
    """Call codes that Linux on arm64 uses (TLFS, appendix A)."""

    GET_VP_REGISTERS = 0x50
    SET_VP_REGISTERS = 0x51
    POST_MESSAGE = 0x5C
    SIGNAL_EVENT = 0x5D


class Status(IntEnum):
    """Hypercall results (TLFS, appendix B; include/asm-generic/hyperv-tlfs.h, HV_STATUS_*)."""

    SUCCESS = 0
    INVALID_HYPERCALL_CODE = 2
    INVALID_HYPERCALL_INPUT = 3
    INVALID_ALIGNMENT = 4
    INVALID_PARAMETER = 5
    INSUFFICIENT_MEMORY = 11
    INVALID_PORT_ID = 17
    INVALID_CONNECTION_ID = 18


class Register(IntEnum):
    """Virtual processor registers (arch/arm64/include/asm/hyperv-tlfs.h, HV_REGISTER_*)."""

    HYPERVISOR_VERSION = 0x100
    FEATURES = 0x200
    ENLIGHTENMENTS = 0x201
    CRASH_P0 = 0x210
    CRASH_P1 = 0x211
    CRASH_P2 = 0x212
    CRASH_P3 = 0x213
    CRASH_P4 = 0x214
    CRASH_CTL = 0x215
    GUEST_OS_ID = 0x90002
    VP_INDEX = 0x90003
    TIME_REF_COUNT = 0x90004
    REFERENCE_TSC = 0x90017
    SINT0 = 0xA0000
    SINT2 = 0xA0002
    SINT15 = 0xA000F
    SCONTROL = 0xA0010
    SVERSION = 0xA0011
    SIEFP = 0xA0012
    SIMP = 0xA0013
    EOM = 0xA0014


class MessageConnection(IntEnum):
    """Connections that channel messages go to (drivers/hv/hyperv_vmbus.h, VMBUS_MESSAGE_CONNECTION_ID*)."""

    OLD = 1
    """Before protocol 5.0."""
    NEW = 4
    """For INITIATE_CONTACT from 5.0 on; what follows goes where VERSION_RESPONSE says."""
