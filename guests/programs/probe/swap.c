/* Pages go out to swap and come back as they were. Swap must be on. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"
#include "probe.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum { PAGES = 64, MOST = PAGES * 3 / 4, TRIES = 20 };

/* Another value in every word, that depends on where the word is. */
static uint32_t pattern(size_t word)
{
	uint32_t value = word * 2654435761u;

	return value ^ value >> 15;
}

static size_t swapped_pages(const void *start)
{
	uint64_t words[PAGES];
	size_t swapped = 0;

	errno = read_pagemap(start, PAGES, words);
	if (errno)
		tap_stop("reading /proc/self/pagemap");
	for (size_t i = 0; i < PAGES; i++)
		swapped += !!(words[i] & PAGEMAP_SWAPPED);
	return swapped;
}

static bool swap_is_on(void)
{
	return read_field("/proc/meminfo", "SwapTotal") > 0;
}

/* A count that rose by at least as much as it should have. */
static void check_rise(const char *name, long long before, size_t least)
{
	long long rise = read_field("/proc/vmstat", name) - before;
	char wanted[32], saw[32];

	if (before < 0) {
		tap_skip("the kernel does not count it (VM_EVENT_COUNTERS)",
			 "rise of %s in /proc/vmstat", name);
		return;
	}
	snprintf(wanted, sizeof(wanted), "at least %zu", least);
	snprintf(saw, sizeof(saw), "%lld", rise);
	tap_ok(rise >= (long long)least, wanted, saw, "rise of %s in /proc/vmstat", name);
}

int probe_swap(int argc, char **argv)
{
	size_t page = page_size(), words = PAGES * page / sizeof(uint32_t), right = 0, swapped = 0;
	long long out = read_field("/proc/vmstat", "pswpout"), in = read_field("/proc/vmstat", "pswpin");
	uint32_t *buffer;
	char wanted[32], saw[32];

	(void)argc, (void)argv;
	if (!tap_ok(swap_is_on(), "more than 0 kB", "none", "SwapTotal in /proc/meminfo"))
		return tap_done();
	buffer = (uint32_t *)map_pages(PAGES);
	for (size_t i = 0; i < words; i++)
		buffer[i] = pattern(i);
	/* Pages that another CPU's batch still holds cannot be taken yet. */
	for (int i = 0; i < TRIES && swapped < PAGES; i++) {
		if (madvise(buffer, PAGES * page, MADV_PAGEOUT))
			tap_stop("madvise(MADV_PAGEOUT)");
		swapped = swapped_pages(buffer);
	}
	snprintf(wanted, sizeof(wanted), "at least %d", MOST);
	snprintf(saw, sizeof(saw), "%zu", swapped);
	tap_ok(swapped >= MOST, wanted, saw, "pages swapped out, of %d", PAGES);
	check_rise("pswpout", out, swapped);
	for (size_t i = 0; i < words; i++)
		right += buffer[i] == pattern(i);
	tap_equal(words, right, "words that came back as they were");
	tap_equal(0, swapped_pages(buffer), "pages still swapped out once read");
	check_rise("pswpin", in, swapped);
	return tap_done();
}
