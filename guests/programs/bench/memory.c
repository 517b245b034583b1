/* Mappings: made, moved, protected and given up. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define RW (PROT_READ | PROT_WRITE)
enum { MAPPINGS = 64 };

static unsigned char *area, *target;
static void *mapped[MAPPINGS];
static bool failed;

static const char *populate(size_t length)
{
	failed = false;
	area = anonymous(length);
	if (!area)
		return because("mapping %zu bytes", length);
	touch(area, length);
	return untouched(area, length) < 0 ? NULL : "a page does not hold what was written to it";
}

static const char *populate_large(void)
{
	return populate(setting.large);
}

static const char *populate_small(void)
{
	return populate(setting.small);
}

static bool is_mapped(const void *start)
{
	unsigned char resident;

	return !mincore((void *)start, setting.page, &resident);
}

static void unmap_large(size_t times)
{
	(void)times;
	failed |= munmap(area, setting.large) != 0;
}

static const char *check_unmapped(void)
{
	if (failed)
		return because("munmap");
	if (is_mapped(area) || is_mapped(area + setting.large - setting.page))
		return "the pages are still there";
	return NULL;
}

static void map_many(size_t times)
{
	for (size_t i = 0; i < times; i++)
		mapped[i] = mmap(NULL, setting.large, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static const char *check_mapped(void)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < MAPPINGS; i++) {
		if (mapped[i] == MAP_FAILED)
			return because("mmap");
		if (!is_mapped(mapped[i]))
			wrong = "a mapping is not there";
	}
	/* Neighbours have become one mapping, and one call takes as much of it as was asked for. */
	for (size_t i = 0; i < MAPPINGS; i++)
		munmap(mapped[i], setting.large);
	return wrong;
}

/* To where its last-level tables cannot be moved as they are: to another place in them. */
static const char *before_move(void)
{
	const char *wrong = populate_small();

	target = mmap(NULL, setting.small + setting.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (target == MAP_FAILED)
		return because("a place to move to");
	munmap(target, setting.small + setting.page);
	if (((uintptr_t)target ^ (uintptr_t)area) % (setting.small / 2) == 0)
		target += setting.page;
	return wrong;
}

static void move(size_t times)
{
	(void)times;
	failed = mremap(area, setting.small, setting.small, MREMAP_MAYMOVE | MREMAP_FIXED, target) != target;
}

static const char *check_moved(void)
{
	long page = failed ? 0 : untouched(target, setting.small);

	munmap(failed ? area : target, setting.small);
	return page < 0 ? NULL : "the pages did not all come along";
}

static void protect(size_t times)
{
	(void)times;
	failed |= mprotect(area, setting.large, PROT_READ) != 0;
}

static const char *check_protected(void)
{
	long page = untouched(area, setting.large);

	if (failed)
		return because("mprotect");
	munmap(area, setting.large);
	return page < 0 ? NULL : "a page lost what it held";
}

static void give_up(size_t times)
{
	(void)times;
	failed |= madvise(area, setting.small, MADV_DONTNEED) != 0;
}

static const char *check_given_up(void)
{
	bool zero = true;

	for (size_t at = 0; at < setting.small; at += setting.page)
		zero &= !area[at];
	munmap(area, setting.small);
	return failed ? because("madvise") : zero ? NULL : "a page that was given up holds something";
}

const struct bench memory_benches[] = {
	{ .name = "munmap", .unit = "munmap", .times = 1,
	  .about = "munmap of the large area, each page of it written",
	  .before = populate_large, .operate = unmap_large, .check = check_unmapped },
	{ .name = "mmap", .unit = "mmap", .times = MAPPINGS,
	  .about = "mmap of the large area, no page of it touched",
	  .operate = map_many, .check = check_mapped },
	{ .name = "mremap", .unit = "mremap", .times = 1,
	  .about = "a move of the small area, its tables not as they are",
	  .before = before_move, .operate = move, .check = check_moved },
	{ .name = "mprotect", .unit = "mprotect", .times = 1,
	  .about = "the large area made read-only, each page of it written",
	  .before = populate_large, .operate = protect, .check = check_protected },
	{ .name = "madvise", .unit = "madvise", .times = 1,
	  .about = "MADV_DONTNEED of the small area, each page of it written",
	  .before = populate_small, .operate = give_up, .check = check_given_up },
	{ 0 },
};

static void nothing(size_t times)
{
	(void)times;
}

/* What the two reads and a call cost: taken off all others. */
const struct bench empty_benches[] = {
	{ .name = "empty", .unit = "sample", .times = 1,
	  .about = "two reads of the counter",
	  .operate = nothing },
	{ 0 },
};
