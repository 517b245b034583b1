/* A transparent huge page of one PMD entry is mapped whole, and splits without loss. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "memory.h"
#include "probe.h"
#include "thpfs.h"

/* Each page's number lies where no two pages have it at the same place. */
static uint32_t *slot(unsigned char *start, size_t index)
{
	size_t page = page_size();

	return (uint32_t *)(start + index * page + index * 64 % page);
}

static size_t numbered(unsigned char *start, size_t count, size_t left_out)
{
	size_t right = 0;

	for (size_t i = 0; i < count; i++)
		right += i != left_out && *slot(start, i) == i + 1;
	return right;
}

static void check_split(unsigned char *start, size_t size)
{
	size_t page = page_size(), count = size / page, middle = count / 2 + 1;

	for (size_t i = 0; i < count; i++)
		*slot(start, i) = i + 1;
	tap_equal(size, smaps_bytes(start, "AnonHugePages"),
		  "AnonHugePages after writing each page of it");
	tap_errno(0, failed(mprotect(start + middle * page, page, PROT_READ)),
		  "mprotect of one page inside");
	tap_equal(0, smaps_bytes(start, "AnonHugePages"), "AnonHugePages of what lies before it");
	tap_equal(count, numbered(start, count, count),
		  "pages with their contents after that split, of %zu", count);
	tap_errno(0, failed(munmap(start + 3 * page, page)), "munmap of another page inside");
	tap_equal(count - 1, numbered(start, count, 3),
		  "pages with their contents without that one, of %zu",
		  count - 1);
}

int probe_thp(int argc, char **argv)
{
	long long size = read_number(THP_DIRECTORY "/hpage_pmd_size");
	unsigned char *start;
	char wanted[32], saw[128];

	(void)argc, (void)argv;
	if (size < 0) {
		tap_skip("the kernel has no transparent huge pages",
			 "a transparent huge page of one PMD entry");
		return tap_done();
	}
	tap_equal(pmd_bytes(page_size()), size, "hpage_pmd_size");
	thp_set(0, "madvise");
	if (thp_has_switch(size))
		thp_set(size, "inherit");
	write_text("/proc/sys/vm/compact_memory", "1");
	start = map_aligned(size, size);
	tap_errno(0, failed(madvise(start, size, MADV_HUGEPAGE)), "madvise(MADV_HUGEPAGE)");
	start[size / 2] = 1;
	snprintf(wanted, sizeof(wanted), "%lld", size);
	snprintf(saw, sizeof(saw), "%lld with %lld kB free of %lld kB",
		 smaps_bytes(start, "AnonHugePages"),
		 read_field("/proc/meminfo", "MemFree"), read_field("/proc/meminfo", "MemTotal"));
	if (tap_ok(smaps_bytes(start, "AnonHugePages") == size, wanted, saw,
		   "AnonHugePages of the mapping after one write")) {
		check_one_run(start, size, "the huge page");
		check_split(start, size);
	}
	thp_restore();
	return tap_done();
}
