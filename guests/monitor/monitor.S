/*
 * The monitor: what stands at EL2 where Hyper-V would. It starts the kernel at EL1, takes every HVC and SMC
 * of the kernel's, and has the host's program answer it: registers go into a mailbox in RAM, a byte to the
 * doorbell, and the vCPU waits in WFI until the host has answered. It decides nothing itself.
 *
 * The host gives the numbers as -D options (harness/hyperv/layout.py), offsets in bytes:
 *   from the monitor's first byte: MAILBOXES, BOOT_BLOCK, SECONDARY
 *   MAILBOX_BYTES, one for each vCPU; within it REGISTERS, SYNDROME, FAULT_ADDRESS, STATE, ACTION
 *   IDLE, ASKED, ANSWERED, DEAD, values of STATE; REISSUE, a value of ACTION
 *   within the boot block: ENTRY, DTB, DOORBELL
 *
 * SP_EL2 is the vCPU's mailbox: there is no stack. Stage 2 is off: a kernel can write all of this, and with
 * it reaches nothing that QEMU's EL2 does not offer to any guest.
 */
        .arch   armv8.2-a

/* HCR_EL2: EL1 is AArch64; SMC traps; pointer authentication does not (Arm ARM D24.2, "HCR_EL2"). */
#define HCR_RW          (1 << 31)
#define HCR_TSC         (1 << 19)
#define HCR_APK_API     (3 << 40)
#define HCR_ATA         (1 << 56)
/* CPTR_EL2: RES1 bits; FP, SVE and SME do not trap. */
#define CPTR_NO_TRAPS   0x22ff
/* HCRX_EL2: everything that a bit there enables. */
#define HCRX_ENABLES    ((1 << 0) | (1 << 1) | (1 << 2) | (1 << 5) | (1 << 11) | (1 << 14) | (1 << 15) | \
                         (1 << 16) | (1 << 17) | (1 << 18) | (1 << 21) | (1 << 22) | (1 << 23) | (1 << 24))
/* Fine-grained traps: bits whose name begins with `n` trap while they are 0. */
#define HFGXTR_NO_TRAPS 0xfffc000000000000
#define HFGITR_NO_TRAPS (0x1f << 55)
#define HDFGXTR_NO_TRAPS (0xf << 59)
#define HFGITR2_NO_TRAPS 2
/* RES1 bits of SCTLR_EL1, SPAN among them; the MMU is off. */
#define SCTLR_OFF       0x30d00800
/* PSTATE for EL1h, exceptions masked (Arm ARM C5.2.18, SPSR_EL1). */
#define AS_EL1          0x3c5
#define EC_SMC64        0x17

/* System registers by encoding, for assemblers that do not know them yet. */
#define ZCR_EL2         S3_4_C1_C2_0
#define SMCR_EL2        S3_4_C1_C2_6
#define HCRX_EL2        S3_4_C1_C2_2
#define HFGRTR_EL2      S3_4_C1_C1_4
#define HFGWTR_EL2      S3_4_C1_C1_5
#define HFGITR_EL2      S3_4_C1_C1_6
#define HDFGRTR_EL2     S3_4_C3_C1_4
#define HDFGWTR_EL2     S3_4_C3_C1_5
#define HAFGRTR_EL2     S3_4_C3_C1_6
#define HDFGRTR2_EL2    S3_4_C3_C1_0
#define HDFGWTR2_EL2    S3_4_C3_C1_1
#define HFGRTR2_EL2     S3_4_C3_C1_2
#define HFGWTR2_EL2     S3_4_C3_C1_3
#define HFGITR2_EL2     S3_4_C3_C1_7
#define ICC_SRE_EL2     S3_4_C12_C9_5
#define ICH_HCR_EL2     S3_4_C12_C11_0

        /* Branch unless a 4-bit field of an ID register is \least or more; uses x1. */
        .macro  unless_has register, lsb, least, target
        mrs     x1, \register
        ubfx    x1, x1, #\lsb, #4
        cmp     x1, #\least
        b.lo    \target
        .endm

        .text
        .global _start
_start:
base:
        mov     x20, #0                 /* x20: for a secondary, where it is to go; else 0 */
        b       common

        .org    SECONDARY               /* PSCI CPU_ON leads here, with the address of {entry, x0} in x0 */
        mov     x20, x0

common:
        adr     x19, base
        mrs     x21, mpidr_el1
        and     x21, x21, #0xff
        mov     x22, #MAILBOX_BYTES
        mov     x23, #MAILBOXES
        add     x23, x23, x19
        madd    x22, x21, x22, x23
        mov     sp, x22
        adr     x0, vectors
        msr     vbar_el2, x0

        mov     x0, #(HCR_RW | HCR_TSC)
        orr     x0, x0, #HCR_APK_API
        unless_has id_aa64pfr1_el1, 8, 2, 1f    /* MTE */
        orr     x0, x0, #HCR_ATA
1:      msr     hcr_el2, x0
        mov     x0, #CPTR_NO_TRAPS
        msr     cptr_el2, x0
        isb
        unless_has id_aa64pfr0_el1, 32, 1, 1f   /* SVE: all vector lengths */
        mov     x0, #0xf
        msr     ZCR_EL2, x0
1:      unless_has id_aa64pfr1_el1, 24, 1, 1f   /* SME: all vector lengths, FA64, ZT0 */
        mov     x0, #0xf
        orr     x0, x0, #(3 << 30)
        msr     SMCR_EL2, x0
1:      unless_has id_aa64mmfr1_el1, 40, 1, 1f  /* HCX */
        ldr     x0, =HCRX_ENABLES
        msr     HCRX_EL2, x0
1:      unless_has id_aa64mmfr0_el1, 56, 1, 1f  /* FGT */
        mov     x0, #HFGXTR_NO_TRAPS
        msr     HFGRTR_EL2, x0
        msr     HFGWTR_EL2, x0
        mov     x0, #HFGITR_NO_TRAPS
        msr     HFGITR_EL2, x0
        mov     x0, #HDFGXTR_NO_TRAPS
        msr     HDFGRTR_EL2, x0
        msr     HDFGWTR_EL2, x0
        unless_has id_aa64pfr0_el1, 44, 1, 2f   /* AMU */
        msr     HAFGRTR_EL2, xzr
2:      unless_has id_aa64mmfr0_el1, 56, 2, 1f  /* FGT2 */
        mov     x0, #-1
        msr     HDFGRTR2_EL2, x0
        msr     HDFGWTR2_EL2, x0
        msr     HFGRTR2_EL2, x0
        msr     HFGWTR2_EL2, x0
        mov     x0, #HFGITR2_NO_TRAPS
        msr     HFGITR2_EL2, x0
1:      msr     hstr_el2, xzr
        mrs     x0, pmcr_el0            /* all event counters are EL1's: MDCR_EL2.HPMN is PMCR_EL0.N */
        ubfx    x0, x0, #11, #5
        msr     mdcr_el2, x0
        mov     x0, #3                  /* EL1 uses the physical timer and counter */
        msr     cnthctl_el2, x0
        msr     cntvoff_el2, xzr
        msr     vttbr_el2, xzr
        mrs     x0, midr_el1
        msr     vpidr_el2, x0
        mrs     x0, mpidr_el1
        msr     vmpidr_el2, x0
        mov     x0, #0xf                /* the GIC's system registers, EL1's included */
        msr     ICC_SRE_EL2, x0
        isb
        msr     ICH_HCR_EL2, xzr

        ldr     x0, =SCTLR_OFF
        msr     sctlr_el1, x0
        mov     x0, #AS_EL1
        msr     spsr_el2, x0
        mov     x4, #BOOT_BLOCK
        add     x4, x4, x19
        cbnz    x20, 1f
        ldr     x2, [x4, #ENTRY]
        ldr     x0, [x4, #DTB]
        b       2f
1:      ldp     x2, x0, [x20]
2:      msr     elr_el2, x2
        mov     x1, #0
        mov     x2, #0
        mov     x3, #0
        isb
        eret

        /* Have the host look at this vCPU's mailbox: w4 is the state, x5 its address afterwards. */
        .macro  ring
        mov     x6, #BOOT_BLOCK
        adr     x7, base
        add     x6, x6, x7
        ldr     x6, [x6, #DOORBELL]
        add     x5, sp, #STATE
        stlr    w4, [x5]
        dsb     sy
        strb    w4, [x6]
        .endm

        .macro  save_syndrome
        mrs     x0, esr_el2
        mrs     x1, elr_el2
        stp     x0, x1, [sp, #SYNDROME]
        mrs     x2, far_el2
        str     x2, [sp, #FAULT_ADDRESS]
        .endm

trapped:
        stp     x0, x1, [sp, #REGISTERS]
        stp     x2, x3, [sp, #REGISTERS + 16]
        stp     x4, x5, [sp, #REGISTERS + 32]
        stp     x6, x7, [sp, #REGISTERS + 48]
        stp     x8, x9, [sp, #REGISTERS + 64]
        stp     x10, x11, [sp, #REGISTERS + 80]
        stp     x12, x13, [sp, #REGISTERS + 96]
        stp     x14, x15, [sp, #REGISTERS + 112]
        stp     x16, x17, [sp, #REGISTERS + 128]
        save_syndrome
        lsr     x0, x0, #26
        cmp     x0, #EC_SMC64           /* a trapped SMC is returned to; an HVC is already behind us */
        b.ne    1f
        add     x1, x1, #4
        msr     elr_el2, x1
1:      mov     w4, #ASKED
        ring
        /*
         * The host answers and then raises a line that wakes this vCPU. What else wakes it, an interrupt for
         * EL1 say, leads back into WFI.
         */
2:      wfi
        ldar    w4, [x5]
        cmp     w4, #ANSWERED
        b.ne    2b
        mov     w4, #IDLE
        stlr    w4, [x5]
        ldr     w4, [sp, #ACTION]
        cmp     w4, #REISSUE
        b.ne    3f
        /* PSCI: QEMU itself answers an SMC from here. */
        ldp     x0, x1, [sp, #REGISTERS]
        ldp     x2, x3, [sp, #REGISTERS + 16]
        smc     #0
        stp     x0, x1, [sp, #REGISTERS]
        stp     x2, x3, [sp, #REGISTERS + 16]
3:      ldp     x2, x3, [sp, #REGISTERS + 16]
        ldp     x4, x5, [sp, #REGISTERS + 32]
        ldp     x6, x7, [sp, #REGISTERS + 48]
        ldp     x8, x9, [sp, #REGISTERS + 64]
        ldp     x10, x11, [sp, #REGISTERS + 80]
        ldp     x12, x13, [sp, #REGISTERS + 96]
        ldp     x14, x15, [sp, #REGISTERS + 112]
        ldp     x16, x17, [sp, #REGISTERS + 128]
        ldp     x0, x1, [sp, #REGISTERS]
        eret

        /* An exception at EL2 itself, or one that nothing here routes to EL2. */
broken:
        save_syndrome
        mov     w4, #DEAD
        ring
1:      wfi
        b       1b

        .macro  vector target
        .balign 0x80
        b       \target
        .endm

        .balign 0x800
vectors:
        .rept   8                       /* current EL, with SP_EL0 and with SP_EL2 */
        vector  broken
        .endr
        vector  trapped                 /* lower EL, AArch64: synchronous, IRQ, FIQ, SError */
        vector  broken
        vector  broken
        vector  broken
        .rept   4                       /* lower EL, AArch32 */
        vector  broken
        .endr
        .balign 0x80
        .ltorg
