/* hugetlb pages of given sizes can be had, are what they claim to be, and go back. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "probe.h"

/* Faulting one in zeroes it all: of the large ones, which take an emulated guest seconds, one must do. */
#define LARGE (256UL << 20)

static long long pool(size_t size, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", size >> 10, name);
	return read_number(path);
}

static int set_pool(size_t size, long long count)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages", size >> 10);
	snprintf(text, sizeof(text), "%lld", count);
	return write_text(path, text);
}

/* Grows the pool; a second try follows compaction, for what booting has scattered. */
static bool reserve(size_t size, long long before, long long count)
{
	char wanted[64], saw[128];

	if (!tap_errno(0, set_pool(size, before + count), "writing nr_hugepages for %zu kB", size >> 10))
		return false;
	if (pool(size, "nr_hugepages") < before + count) {
		write_text("/proc/sys/vm/drop_caches", "3");
		write_text("/proc/sys/vm/compact_memory", "1");
		set_pool(size, before + count);
	}
	snprintf(wanted, sizeof(wanted), "%lld", before + count);
	snprintf(saw, sizeof(saw), "%lld with %lld kB free of %lld kB", pool(size, "nr_hugepages"),
		 read_field("/proc/meminfo", "MemFree"), read_field("/proc/meminfo", "MemTotal"));
	return tap_ok(pool(size, "nr_hugepages") == before + count, wanted, saw,
		      "pages of %zu kB that the kernel could reserve", size >> 10);
}

/* A mark in each of a few places of each huge page: both ends and some page in between. */
static void mark(unsigned char *start, size_t size, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		start[i * size] = 0x10 + i;
		start[i * size + size / 2 + 1] = 0x20 + i;
		start[(i + 1) * size - 1] = 0x30 + i;
	}
}

static size_t marked(const unsigned char *start, size_t size, size_t count)
{
	size_t right = 0;

	for (size_t i = 0; i < count; i++)
		right += start[i * size] == 0x10 + i && start[i * size + size / 2 + 1] == 0x20 + i &&
			 start[(i + 1) * size - 1] == 0x30 + i && start[i * size + 1] == 0;
	return right;
}

static void check_mapping(size_t size, size_t count)
{
	size_t page = page_size(), kib = size >> 10;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | __builtin_ctzll(size) << MAP_HUGE_SHIFT;
	unsigned char *start = mmap(NULL, count * size, PROT_READ | PROT_WRITE, flags, -1, 0);
	long long rest = pool(size, "free_hugepages");
	char what[64];

	if (start == MAP_FAILED) {
		tap_errno(0, errno, "mmap of %zu pages of %zu kB", count, kib);
		return;
	}
	tap_equal(0, (uintptr_t)start % size, "address of a page of %zu kB modulo its size", kib);
	mark(start, size, count);
	tap_equal(rest - count, pool(size, "free_hugepages"), "free_hugepages of %zu kB once touched",
		  kib);
	tap_equal(size, smaps_bytes(start, "KernelPageSize"), "KernelPageSize of %zu kB", kib);
	tap_equal(size, smaps_bytes(start, "MMUPageSize"), "MMUPageSize of %zu kB", kib);
	tap_equal(count * size, smaps_bytes(start, "Private_Hugetlb"), "Private_Hugetlb of %zu kB", kib);
	for (size_t i = 0; i < count; i++) {
		snprintf(what, sizeof(what), "page %zu of %zu kB", i, kib);
		check_one_run(start + i * size, size, what);
	}
	tap_errno(EINVAL, failed(munmap(start, page)), "munmap of the first %zu bytes of %zu kB", page,
		  kib);
	tap_errno(EINVAL, failed(munmap(start + size - page, page)), "munmap of the last %zu bytes",
		  page);
	tap_errno(EINVAL, failed(mprotect(start + page, page, PROT_READ)),
		  "mprotect of a part of %zu kB", kib);
	tap_equal(count, marked(start, size, count), "pages of %zu kB that kept their contents", kib);
	tap_errno(0, failed(munmap(start, count * size)), "munmap of %zu pages of %zu kB", count, kib);
	tap_equal(rest, pool(size, "free_hugepages"), "free_hugepages of %zu kB after munmap", kib);
}

static void check_size(size_t size)
{
	long long before = pool(size, "nr_hugepages"), count = size < LARGE ? 2 : 1;

	if (before < 0) {
		tap_ok(false, "a directory in /sys/kernel/mm/hugepages", "none",
		       "the kernel has pages of %zu kB",
		       size >> 10);
		return;
	}
	if (reserve(size, before, count))
		check_mapping(size, count);
	set_pool(size, before);
	tap_equal(before, pool(size, "nr_hugepages"), "nr_hugepages of %zu kB once released", size >> 10);
}

int probe_hugetlb(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		char *end;
		unsigned long long size = strtoull(argv[i], &end, 10);

		if (*end || size < page_size() || (size & (size - 1))) {
			fprintf(stderr, "probe hugetlb: '%s' is not the size of a huge page in bytes\n",
				argv[i]);
			return 2;
		}
	}
	for (int i = 0; i < argc; i++)
		check_size(strtoull(argv[i], NULL, 10));
	return tap_done();
}
