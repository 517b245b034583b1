/*
 * Reading the clock around the work. The clock is the generic timer's virtual counter: under QEMU with
 * `-icount shift=0` and a CPU whose `cntfrq` is 1 GHz each tick of it is an instruction; on hardware it is time.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>

/*
 * Hints that no extension has taken, so that they do nothing (Arm ARM C6.2, HINT): whoever watches from
 * outside sees a sample begin and end. They stand outside of the two reads.
 */
#define BEGIN_MARK "hint #0x70"
#define END_MARK "hint #0x71"

static inline uint64_t begin(void)
{
	uint64_t ticks;

	asm volatile(BEGIN_MARK "\n\tisb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
	return ticks;
}

static inline uint64_t end(void)
{
	uint64_t ticks;

	asm volatile("isb\n\tmrs %0, cntvct_el0\n\t" END_MARK : "=r"(ticks) : : "memory");
	return ticks;
}

static inline uint64_t now(void)
{
	uint64_t ticks;

	asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
	return ticks;
}

static inline uint64_t clock_hz(void)
{
	uint64_t hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz;
}

#endif
