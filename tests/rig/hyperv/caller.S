/*
 * A guest that calls: each vCPU makes CALLS hypercalls and writes down what came of them, then vCPU 0 writes
 * FLOOD bytes into the doorbell as only the monitor should, and powers off. An Image (booting.rst) at EL1.
 *
 * -D options: CALLS, DELAY (turns of a loop before each), VCPUS, FLOOD, RESULTS_PA (64 bytes for each vCPU), DOORBELL_PA.
 */
        .arch   armv8.2-a

#define HYPERCALL       0x46000001
#define GET_REGISTER    0x100010050     /* HVCALL_GET_VP_REGISTERS, fast, one register */
#define VP_INDEX        0x90003
#define CPU_ON          0xc4000003
#define SYSTEM_OFF      0x84000008
#define PRESERVED       0x1234

        .text
        .global _start
_start:
        b       start
        .word   0
        .quad   0, 0x10000, 0, 0, 0, 0  /* text_offset, image_size, flags */
        .ascii  "ARM\x64"
        .word   0

start:
        mov     x28, #0
        bl      call_many
#if VCPUS > 1
        mov     x27, #1
1:      ldr     x0, =CPU_ON
        mov     x1, x27
        adr     x2, secondary
        mov     x3, x27
        hvc     #0
        cbnz    x0, failed
        add     x27, x27, #1
        cmp     x27, #VCPUS
        b.lo    1b
        /* A vCPU is done when its fourth word is written. */
        mov     x27, #1
2:      ldr     x9, =RESULTS_PA
        add     x9, x9, x27, lsl #6
3:      ldar    x10, [x9]
        cbz     x10, 3b
        add     x27, x27, #1
        cmp     x27, #VCPUS
        b.lo    2b
#endif
        ldr     x1, =DOORBELL_PA
        ldr     x2, =FLOOD
4:      cbz     x2, failed
        strb    w2, [x1]
        sub     x2, x2, #1
        b       4b

        /* Also where it ends well. */
failed:
        ldr     x0, =SYSTEM_OFF
        smc     #0                      /* the monitor takes both */
5:      b       5b

secondary:
        mov     x28, x0                 /* the context id */
        adr     x30, 6f
        b       call_many
6:      wfi
        b       6b

        /* x28: this vCPU's number. Results: done, ticks, calls that were right, CurrentEL. */
call_many:
        mov     x20, #0
        mov     x21, #0
        mrs     x22, cntvct_el0
        .irp    n, 10, 11, 12, 13, 14, 15, 16, 17, 18
        mov     x\n, #(PRESERVED + \n)
        .endr
7:      ldr     x9, =DELAY
8:      sub     x9, x9, #1
        cbnz    x9, 8b
        ldr     x0, =HYPERCALL
        ldr     x1, =GET_REGISTER
        mov     x2, #-1
        mov     x3, #-2
        ldr     x4, =VP_INDEX
        hvc     #0
        mov     x9, #1
        cmp     x0, x9, lsl #32
        ccmp    x6, x28, #0, eq
        ccmp    x7, #0, #0, eq
        .irp    n, 10, 11, 12, 13, 14, 15, 16, 17, 18
        mov     x9, #(PRESERVED + \n)
        ccmp    x\n, x9, #0, eq
        .endr
        cinc    x21, x21, eq
        add     x20, x20, #1
        ldr     x9, =CALLS
        cmp     x20, x9
        b.lo    7b
        mrs     x23, cntvct_el0
        sub     x23, x23, x22
        mrs     x24, CurrentEL
        ldr     x9, =RESULTS_PA
        add     x9, x9, x28, lsl #6
        stp     x23, x21, [x9, #8]
        str     x24, [x9, #24]
        mov     x10, #1
        stlr    x10, [x9]
        ret
        .ltorg
