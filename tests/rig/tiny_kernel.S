/*
 * A kernel of a few instructions for test_selector.py: says what it was entered with, then waits.
 *
 *   -D PAGES   bits 2:1 of the header's flags     -D TEXT_OFFSET   of the header
 *
 * It writes over its .bss before it says anything, and sums up the filling that follows its code, which is
 * there to be moved.
 */
#define UART		0x09000000
#define FILLING_BYTES	0x23001

	.section .text, "ax"
	.globl	_start
_start:
	b	enter
	.long	0
	.quad	TEXT_OFFSET
	.quad	image_end - _start
	.quad	8 | PAGES << 1
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.macro	hex register
	mov	x24, \register
	bl	say_hex
	.endm

enter:
	mov	x19, x0
	orr	x20, x1, x2
	orr	x20, x20, x3
	adr	x26, hex_digits
	ldr	x27, =UART

	adrp	x4, bss_start
	add	x4, x4, :lo12:bss_start
	adrp	x5, image_end
	add	x5, x5, :lo12:image_end
	mov	x6, #-1
1:	str	x6, [x4], #8
	cmp	x4, x5
	b.lo	1b

	adr	x4, filling
	adrp	x5, filling_end
	add	x5, x5, :lo12:filling_end
	mov	x21, #0
2:	ldrb	w6, [x4], #1
	add	x21, x21, x21, lsl #1
	add	x21, x21, x6
	cmp	x4, x5
	b.lo	2b

	mov	x4, #'<'
	str	w4, [x27]
	mov	x4, #PAGES
	hex	x4
	mrs	x22, CurrentEL
	lsr	x22, x22, #2
	hex	x22
	tbnz	x22, #1, 3f
	mrs	x23, sctlr_el1
	mrs	x28, vbar_el1
	b	4f
3:	mrs	x23, sctlr_el2
	mrs	x28, vbar_el2
4:	and	x23, x23, #1
	hex	x23
	adr	x23, _start
	hex	x23
	hex	x19
	ldr	w4, [x19]
	hex	x4
	hex	x20
	hex	x21
	mrs	x4, daif
	hex	x4
	hex	x28
	mov	x4, #'>'
	str	w4, [x27]
	mov	x4, #'\n'
	str	w4, [x27]

	/* Until it is ended: a QEMU that ends by itself may do so before its monitor is there. */
6:	wfi
	b	6b

	/* A space and x24 in hex. */
say_hex:
	mov	x4, #' '
	str	w4, [x27]
	mov	x5, #60
7:	lsr	x4, x24, x5
	and	x4, x4, #15
	ldrb	w4, [x26, x4]
	str	w4, [x27]
	subs	x5, x5, #4
	b.ge	7b
	ret

hex_digits:
	.ascii	"0123456789abcdef"
	.balign	8
	.ltorg
filling:
	.set	value, PAGES
	.rept	FILLING_BYTES
	.byte	(value ^ value >> 7) & 0xff
	.set	value, value * 5 + 1
	.endr
filling_end:

	.bss
	.balign	4096
bss_start:
	.space	0x30000
image_end:
