/* Transparent huge pages of each size the kernel offers, one size at a time. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"
#include "probe.h"
#include "thpfs.h"

#define MOST_SIZES 32

static int compare_sizes(const void *left, const void *right)
{
	size_t a = *(const size_t *)left, b = *(const size_t *)right;

	return (a > b) - (a < b);
}

static size_t list_sizes(size_t *sizes)
{
	DIR *directory = opendir(THP_DIRECTORY);
	struct dirent *entry;
	size_t count = 0, kib;

	while (directory && count < MOST_SIZES && (entry = readdir(directory)))
		if (sscanf(entry->d_name, "hugepages-%zukB", &kib) == 1)
			sizes[count++] = kib << 10;
	if (directory)
		closedir(directory);
	qsort(sizes, count, sizeof(sizes[0]), compare_sizes);
	return count;
}

static void check_size(size_t size)
{
	size_t page = page_size();
	const char *note = size == cont_pte_bytes(page) ? " (one set of contiguous PTEs)" :
			   size == pmd_bytes(page) ? " (one PMD entry)" : "";
	long long before = thp_stat(size, "anon_fault_alloc"), fallen = thp_stat(size,
										 "anon_fault_fallback");
	char what[96], saw[128];
	unsigned char *start;

	snprintf(what, sizeof(what), "a folio of %zu kB%s", size >> 10, note);
	start = map_aligned(size, size);
	tap_errno(0, failed(madvise(start, size, MADV_HUGEPAGE)), "%s: madvise(MADV_HUGEPAGE)", what);
	start[size / 2 + 1] = 1;
	check_one_run(start, size, what);
	snprintf(saw, sizeof(saw), "%lld (anon_fault_fallback rose by %lld, %lld kB free)",
		 thp_stat(size, "anon_fault_alloc") - before, thp_stat(size,
								       "anon_fault_fallback") - fallen,
		 read_field("/proc/meminfo", "MemFree"));
	tap_ok(thp_stat(size, "anon_fault_alloc") == before + 1, "1", saw,
	       "%s: rise of anon_fault_alloc", what);
	tap_equal(size == pmd_bytes(page) ? size : 0, smaps_bytes(start, "AnonHugePages"),
		  "%s: AnonHugePages", what);
	munmap(start, size);
}

int probe_mthp(int argc, char **argv)
{
	size_t sizes[MOST_SIZES], count = list_sizes(sizes);
	char *end;
	size_t limit = strtoull(argv[0], &end, 10);

	(void)argc;
	if (*end || !limit) {
		fprintf(stderr, "probe mthp: LIMIT_BYTES is a number\n");
		return 2;
	}
	if (!count)
		tap_skip("the kernel has no sizes to choose from (Linux 6.8 has)",
			 "transparent huge pages by size");
	else
		thp_set(0, "madvise");
	for (size_t i = 0; i < count; i++)
		if (thp_has_switch(sizes[i]))
			thp_set(sizes[i], "never");
	for (size_t i = 0; i < count; i++) {
		/* Orders that only files and shared memory can have. */
		if (!thp_has_switch(sizes[i])) {
			tap_skip("not a size for anonymous memory", "a folio of %zu kB", sizes[i] >> 10);
		} else if (sizes[i] > limit) {
			tap_skip("larger than the limit given", "a folio of %zu kB", sizes[i] >> 10);
		} else {
			thp_set(sizes[i], "madvise");
			check_size(sizes[i]);
			thp_set(sizes[i], "never");
		}
	}
	thp_restore();
	return tap_done();
}
