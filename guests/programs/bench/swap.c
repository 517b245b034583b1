/* Pages that go out to swap and come back; swap must be on. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "../probe/memory.h"
#include "bench.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum { LENGTH = 256 << 10 };

static unsigned char *area;
static bool refused;

static const char *setup(void)
{
	if (read_field("/proc/meminfo", "SwapTotal") <= 0)
		return "swap is not on";
	area = anonymous(LENGTH);
	return area ? NULL : because("mapping");
}

/* Text-like, so that it can be compressed and yet is not one value all over. */
static unsigned char value(size_t at)
{
	return "0123456789abcdef"[(at / 64 + at % 7) % 16];
}

static size_t swapped(void)
{
	size_t count = 0;
	uint64_t word;

	for (size_t at = 0; at < LENGTH; at += setting.page)
		count += !read_pagemap(area + at, 1, &word) && (word & PAGEMAP_SWAPPED);
	return count;
}

static void push_out(size_t times)
{
	(void)times;
	refused = madvise(area, LENGTH, MADV_PAGEOUT) != 0;
}

static void pull_in(size_t times)
{
	(void)times;
	for (size_t at = 0; at < LENGTH; at += setting.page)
		(void)*(volatile unsigned char *)(area + at);
}

static const char *before_out(void)
{
	for (size_t at = 0; at < LENGTH; at++)
		area[at] = value(at);
	return NULL;
}

static const char *before_in(void)
{
	before_out();
	push_out(1);
	return swapped() * setting.page == LENGTH ? NULL : "not all pages went out to swap";
}

static const char *check(void)
{
	for (size_t at = 0; at < LENGTH; at++)
		if (area[at] != value(at))
			return "a page came back changed";
	return NULL;
}

static const char *check_out(void)
{
	if (refused)
		return because("madvise");
	return swapped() * setting.page == LENGTH ? check() : "not all pages went out to swap";
}

static const char *check_in(void)
{
	return swapped() == 0 ? check() : "a page did not come back";
}

static void teardown(void)
{
	munmap(area, LENGTH);
}

const struct bench swap_benches[] = {
	{ .name = "swap-out", .unit = "256 KiB", .times = 1,
	  .about = "MADV_PAGEOUT of anonymous pages",
	  .setup = setup, .before = before_out, .operate = push_out, .check = check_out,
	  .teardown = teardown },
	{ .name = "swap-in", .unit = "256 KiB", .times = 1,
	  .about = "one read of each page that went out",
	  .setup = setup, .before = before_in, .operate = pull_in, .check = check_in, .teardown = teardown },
	{ 0 },
};
