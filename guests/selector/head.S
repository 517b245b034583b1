/*
 * The selector's head: the Image header, the way in and out, exceptions, and what C cannot say.
 *
 *   x19 the device tree    x20 where the file lies    x21 where the selector moves    x22 the kernel's entry
 *
 * Enters with the MMU off, at EL1 or EL2 (Documentation/arch/arm64/booting.rst), and leaves the same way.
 */
#define TABLE_AT	64
#define TABLE_BYTES	(48 + 3 * 128)
#define WORK_OFFSET	(TABLE_AT + 32)

/* Arm PSCI (DEN0022), SYSTEM_OFF. */
#define SYSTEM_OFF_LOW	0x0008
#define SYSTEM_OFF_HIGH	0x8400

	.arch	armv8-a+crc

	/* Runs one of two instructions, by the exception level. */
	.macro	at_el1_or_el2 el1, el2
	mrs	x9, CurrentEL
	tbnz	x9, #3, 1f
	\el1
	b	2f
1:	\el2
2:
	.endm

	.macro	set_vectors
	adr	x10, vectors
	at_el1_or_el2 "msr vbar_el1, x10", "msr vbar_el2, x10"
	isb
	.endm

	.section .head, "ax"
	.globl	_start
_start:
	b	enter
	.long	0
	.quad	0			/* text_offset */
	.quad	0			/* image_size: combined.py knows */
	.quad	8			/* flags: little-endian, page size unspecified, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0			/* no PE header: not for EFI */
	/* struct table, which combined.py fills. */
	.space	TABLE_BYTES

	.text
enter:
	mov	x19, x0
	adr	x20, _start
	at_el1_or_el2 "mrs x10, vbar_el1", "mrs x10, vbar_el2"
	adr	x11, vbar_before
	str	x10, [x11]
	set_vectors
	adr	x10, stack_top
	mov	sp, x10
	mov	x0, x19
	mov	x1, x20
	adr	x2, selector_end
	sub	x2, x2, x20
	bl	selector_choose

	ldr	x21, [x20, #WORK_OFFSET]
	add	x21, x21, x20
	mov	x0, x21
	mov	x1, x20
	adr	x2, selector_end
	sub	x2, x2, x20
	bl	move_words
	mov	x0, x21
	adr	x1, selector_end
	sub	x1, x1, x20
	bl	cache_invalidate
	adr	x10, moved
	sub	x10, x10, x20
	add	x10, x10, x21
	br	x10
moved:
	set_vectors
	adr	x10, stack_top
	mov	sp, x10
	mov	x0, x20
	mov	x1, x21
	bl	selector_place
	mov	x22, x0

	adr	x11, vbar_before
	ldr	x10, [x11]
	at_el1_or_el2 "msr vbar_el1, x10", "msr vbar_el2, x10"
	isb
	mov	x0, x19
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	br	x22

	/* What no probe asked for is said; a second one, of the saying, ends it without. */
exception:
	at_el1_or_el2 "mrs x11, elr_el1", "mrs x11, elr_el2"
	adr	x12, probe_read_at
	cmp	x11, x12
	b.eq	probe_failed
	adr	x12, probe_memory_store
	cmp	x11, x12
	b.eq	probe_failed
	adr	x12, probe_memory_load
	cmp	x11, x12
	b.eq	probe_failed
	adr	x12, exceptions
	ldr	x13, [x12]
	add	x14, x13, #1
	str	x14, [x12]
	cbnz	x13, wait
	adr	x12, stack_top
	mov	sp, x12
	at_el1_or_el2 "mrs x0, esr_el1", "mrs x0, esr_el2"
	at_el1_or_el2 "mrs x2, far_el1", "mrs x2, far_el2"
	mov	x1, x11
	bl	selector_failed

probe_failed:
	mov	w0, #0
	ret

	.globl	probe_read
probe_read:
probe_read_at:
	ldr	w2, [x0]
	str	w2, [x1]
	mov	w0, #1
	ret

	.globl	probe_memory
probe_memory:
	/* Two values, and another address in between: a bus that floats may hold one. */
	adr	x3, probe_word
	mov	x4, #0x5a
probe_memory_store:
	str	x4, [x0]
	dsb	sy
	str	x0, [x3]
	dsb	sy
probe_memory_load:
	ldr	x5, [x0]
	cmp	x4, x5
	cset	w0, eq
	ret

	.globl	stop
stop:
	/* A second, for whoever watches the console, or has yet to connect to a monitor. */
	mrs	x10, cntfrq_el0
	isb
	mrs	x11, cntvct_el0
1:	isb
	mrs	x12, cntvct_el0
	sub	x12, x12, x11
	cmp	x12, x10
	b.lo	1b
	/* Whoever entered us at EL1 answers HVC, and at EL2 SMC, where there is PSCI at all. */
	mov	w0, #SYSTEM_OFF_LOW
	movk	w0, #SYSTEM_OFF_HIGH, lsl #16
	adr	x12, exceptions
	mov	x13, #1
	str	x13, [x12]
	at_el1_or_el2 "hvc #0", "smc #0"
wait:
	wfi
	b	wait

	.globl	move_words
move_words:
	add	x2, x2, #63
	bic	x2, x2, #63
	cbz	x2, 3f
	cmp	x0, x1
	b.hi	2f
1:	ldp	x4, x5, [x1]
	ldp	x6, x7, [x1, #16]
	ldp	x8, x9, [x1, #32]
	ldp	x10, x11, [x1, #48]
	add	x1, x1, #64
	stp	x4, x5, [x0]
	stp	x6, x7, [x0, #16]
	stp	x8, x9, [x0, #32]
	stp	x10, x11, [x0, #48]
	add	x0, x0, #64
	subs	x2, x2, #64
	b.ne	1b
	b	3f
2:	sub	x2, x2, #64
	add	x12, x1, x2
	add	x13, x0, x2
	ldp	x4, x5, [x12]
	ldp	x6, x7, [x12, #16]
	ldp	x8, x9, [x12, #32]
	ldp	x10, x11, [x12, #48]
	stp	x4, x5, [x13]
	stp	x6, x7, [x13, #16]
	stp	x8, x9, [x13, #32]
	stp	x10, x11, [x13, #48]
	cbnz	x2, 2b
3:	dsb	sy
	ret

	/* By the smallest line of the data caches (CTR_EL0.DminLine 19:16, log2 of words), to the point of
	   coherency, which is where accesses with the MMU off go. */
	.macro	each_line operation
	add	x1, x0, x1
	mrs	x3, ctr_el0
	ubfx	x3, x3, #16, #4
	mov	x2, #4
	lsl	x2, x2, x3
	sub	x3, x2, #1
	bic	x0, x0, x3
1:	cmp	x0, x1
	b.hs	2f
	dc	\operation, x0
	add	x0, x0, x2
	b	1b
2:	dsb	sy
	ic	iallu
	dsb	sy
	isb
	ret
	.endm

	.globl	cache_clean_and_invalidate
cache_clean_and_invalidate:
	each_line civac

	.globl	cache_invalidate
cache_invalidate:
	each_line ivac

	.globl	crc32_by_cpu
crc32_by_cpu:
	mvn	w0, w0
1:	subs	x2, x2, #8
	b.lo	2f
	ldr	x3, [x1], #8
	crc32x	w0, w0, x3
	b	1b
2:	adds	x2, x2, #8
	b.eq	4f
3:	ldrb	w3, [x1], #1
	crc32b	w0, w0, w3
	subs	x2, x2, #1
	b.ne	3b
4:	mvn	w0, w0
	ret

	.globl	cpu_has_crc32
cpu_has_crc32:
	mrs	x0, id_aa64isar0_el1
	ubfx	x0, x0, #16, #4
	cmp	x0, #0
	cset	w0, ne
	ret

	.globl	id_aa64mmfr0
id_aa64mmfr0:
	mrs	x0, id_aa64mmfr0_el1
	ret

	.balign	0x800
vectors:
	.rept	16
	b	exception
	.balign	0x80
	.endr

	.bss
	.balign	8
vbar_before:
	.space	8
exceptions:
	.space	8
probe_word:
	.space	8
