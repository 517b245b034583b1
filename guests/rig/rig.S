/*
 * The rig's payload: turns the MMU on with registers that the host wrote, asks it to translate addresses,
 * and stores what it answers. Runs at EL1 from wherever it was loaded; needs no stack and no kernel.
 *
 * The host gives the numbers as -D options (harness/rig/layout.py):
 *   MAILBOX_PA and within it COMMAND, DONE (bytes), JOBS_LEFT, JOBS, JOB_COUNT (64 bits)
 *   JOB_*, byte offsets within a job, and JOB_BYTES
 *   OP_PAN_FIRST, OP_PAN_LAST, the operations that set PSTATE.PAN
 *
 * A job puts one of the two address ranges to the test; the other, its home, maps this code and its data.
 * Home is at the physical addresses with JOB_ALIAS ORed in, 0 for the lower range. A regime is entered and
 * left in two steps, because code that runs from the lower range cannot change that range's tables, and
 * the MMU can be turned on and off only where addresses are physical: with the ENTRY registers both ranges
 * are homes.
 *
 *   x18 jobs left    x19 next job     x20 next query   x21 next result   x22 queries left
 *   x23 mailbox      x24 operation    x25 ENTRY TCR    x26 ENTRY TTBR0   x27 ENTRY TTBR1   x28 alias
 *
 * With SCTLR_EL1.EE set, data is big-endian for as long as the MMU is on: jobs are read before that, and
 * what is polled is a byte.
 */
        .arch   armv8.2-a

/* RES1 bits of SCTLR_EL1, SPAN among them; the MMU is off. */
#define SCTLR_OFF_LOW   0x0800
#define SCTLR_OFF_HIGH  0x30d0
/* PSTATE for EL1h and EL0t, interrupts masked (Arm ARM C5.2.18, SPSR_EL1). */
#define AS_EL1          0x3c5
#define AS_EL0          0x3c0

        .macro  load_tables tcr, ttbr0, ttbr1
        msr     tcr_el1, \tcr
        msr     ttbr0_el1, \ttbr0
        msr     ttbr1_el1, \ttbr1
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        .endm

        .macro  set_vectors
        adr     x6, vectors
        msr     vbar_el1, x6
        .endm

        .text
        .global _start
_start:
        mov     x24, #-1
        set_vectors
        ldr     x23, =MAILBOX_PA
first:
        ldrb    w0, [x23, #COMMAND]
        ldrb    w1, [x23, #DONE]
        cmp     w0, w1
        b.eq    first

batch:
        ldr     x19, [x23, #JOBS]
        ldr     x18, [x23, #JOB_COUNT]
job:
        str     x18, [x23, #JOBS_LEFT]
        ldr     x0, [x19, #JOB_MAIR]
        ldr     x1, [x19, #JOB_SCTLR]
        ldr     x3, [x19, #JOB_TCR]
        ldr     x4, [x19, #JOB_TTBR0]
        ldr     x5, [x19, #JOB_TTBR1]
        ldr     x20, [x19, #JOB_QUERIES]
        ldr     x21, [x19, #JOB_RESULTS]
        ldr     x22, [x19, #JOB_QUERY_COUNT]
        ldr     x25, [x19, #JOB_ENTRY_TCR]
        ldr     x26, [x19, #JOB_ENTRY_TTBR0]
        ldr     x27, [x19, #JOB_ENTRY_TTBR1]
        ldr     x28, [x19, #JOB_ALIAS]
        add     x19, x19, #JOB_BYTES

        msr     mair_el1, x0
        load_tables x25, x26, x27
        msr     sctlr_el1, x1
        isb
        adr     x6, at_home
        orr     x6, x6, x28
        br      x6
at_home:
        set_vectors
        orr     x23, x23, x28
        load_tables x3, x4, x5

query:
        cbz     x22, finished
        ldp     x0, x24, [x20], #16
        adr     x3, operations
        add     x3, x3, x24, lsl #4
        br      x3

        /* Four instructions each, in the order of harness/rig/query.py, Operation. */
operations:
        at      s1e1r, x0
        b       answered
        nop
        nop

        at      s1e1w, x0
        b       answered
        nop
        nop

        at      s1e0r, x0
        b       answered
        nop
        nop

        at      s1e0w, x0
        b       answered
        nop
        nop

        msr     pan, #1
        at      s1e1rp, x0
        msr     pan, #0
        b       answered

        msr     pan, #1
        at      s1e1wp, x0
        msr     pan, #0
        b       answered

        mov     x3, #AS_EL1
        b       fetch
        nop
        nop

        mov     x3, #AS_EL0
        b       fetch
        nop
        nop

        /* What is fetched is an SVC or it faults: either way the answer is an exception. */
fetch:
        msr     elr_el1, x0
        msr     spsr_el1, x3
        isb
        eret

answered:
        isb
        mrs     x0, par_el1
        mov     x2, #0
record:
        mov     x24, #-1
        stp     x0, x2, [x21], #16
        sub     x22, x22, #1
        b       query

finished:
        sub     x18, x18, #1
        cbnz    x18, leave
        /* The last job's regime stays in force, for the host to look at, until the next command. */
        ldrb    w0, [x23, #COMMAND]
        strb    w0, [x23, #DONE]
idle:
        ldrb    w1, [x23, #COMMAND]
        cmp     w0, w1
        b.eq    idle
leave:
        load_tables x25, x26, x27
        adr     x6, at_physical
        bic     x6, x6, x28
        br      x6
at_physical:
        set_vectors
        bic     x23, x23, x28
        mov     x1, #SCTLR_OFF_LOW
        movk    x1, #SCTLR_OFF_HIGH, lsl #16
        msr     sctlr_el1, x1
        isb
        cbnz    x18, job
        b       batch

        /* An exception that no query asked for ends here: the host reports pc, ESR and FAR. */
stuck:
        b       stuck

exception:
        tbnz    x24, #63, stuck
        mrs     x0, far_el1
        mrs     x2, esr_el1
        orr     x2, x2, #(1 << 63)
        cmp     x24, #OP_PAN_FIRST
        b.lo    record
        cmp     x24, #OP_PAN_LAST
        b.hi    record
        msr     pan, #0
        b       record

        .macro  vector target
        .balign 0x80
        b       \target
        .endm

        .balign 0x800
vectors:
        vector  stuck           /* current EL with SP_EL0: synchronous, IRQ, FIQ, SError */
        vector  stuck
        vector  stuck
        vector  stuck
        vector  exception       /* current EL */
        vector  stuck
        vector  stuck
        vector  stuck
        vector  exception       /* lower EL, AArch64 */
        vector  stuck
        vector  stuck
        vector  stuck
        vector  stuck           /* lower EL, AArch32 */
        vector  stuck
        vector  stuck
        vector  stuck
