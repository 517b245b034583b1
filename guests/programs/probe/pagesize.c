/* The page size has one value, whoever is asked. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "probe.h"

/* AT_PAGESZ as the kernel wrote it, without a C library in between. */
static unsigned long long auxv_page_size(void)
{
	Elf64_auxv_t entry;
	unsigned long long found = 0;
	int auxv = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);

	while (auxv >= 0 && read(auxv, &entry, sizeof(entry)) == sizeof(entry) && entry.a_type != AT_NULL)
		if (entry.a_type == AT_PAGESZ)
			found = entry.a_un.a_val;
	if (auxv >= 0)
		close(auxv);
	return found;
}

static void check_smaps(const char *field, size_t wanted)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	size_t room = 0, length = strlen(field), mappings = 0;
	long long other = -1;
	char *line = NULL, saw[64];

	while (smaps && getline(&line, &room, smaps) > 0)
		if (!strncmp(line, field, length) && line[length] == ':') {
			long long bytes = strtoll(line + length + 1, NULL, 10) * 1024;

			mappings++;
			if (bytes != (long long)wanted)
				other = bytes;
		}
	free(line);
	if (smaps)
		fclose(smaps);
	snprintf(saw, sizeof(saw), "%lld in one of %zu mappings", other, mappings);
	tap_ok(mappings > 0 && other == -1, "the page size in all", saw, "%s of every mapping in smaps",
	       field);
}

static int compare_sizes(const void *left, const void *right)
{
	unsigned long long a = *(const unsigned long long *)left, b = *(const unsigned long long *)right;

	return (a > b) - (a < b);
}

static void join(const unsigned long long *sizes, size_t count, char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count && used < room; i++)
		used += snprintf(text + used, room - used, "%s%llukB", i ? " " : "", sizes[i] >> 10);
}

/* arch/arm64/mm/hugetlbpage.c, hugetlbpage_init(): a PUD maps memory only with 4K pages. */
static void check_hugepage_sizes(size_t page)
{
	unsigned long long wanted[4] = { cont_pte_bytes(page), pmd_bytes(page), cont_pmd_bytes(page),
					 pud_bytes(page) };
	size_t wanted_count = pud_bytes(page) == 1UL << 30 ? 4 : 3, count = 0;
	unsigned long long sizes[16], kib;
	char wanted_text[128], saw_text[256];
	DIR *directory = opendir("/sys/kernel/mm/hugepages");
	struct dirent *entry;

	if (!directory) {
		tap_skip("the kernel has no hugetlb", "sizes in /sys/kernel/mm/hugepages");
		return;
	}
	while ((entry = readdir(directory)) && count < 16)
		if (sscanf(entry->d_name, "hugepages-%llukB", &kib) == 1)
			sizes[count++] = kib << 10;
	closedir(directory);
	qsort(wanted, wanted_count, sizeof(wanted[0]), compare_sizes);
	qsort(sizes, count, sizeof(sizes[0]), compare_sizes);
	join(wanted, wanted_count, wanted_text, sizeof(wanted_text));
	join(sizes, count, saw_text, sizeof(saw_text));
	tap_ok(!strcmp(wanted_text, saw_text), wanted_text, saw_text,
	       "sizes in /sys/kernel/mm/hugepages");
}

static void check_mincore(size_t wanted)
{
	unsigned char *start, resident[3] = { 0 };
	char saw[32];

	start = mmap(NULL, 3 * wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		tap_stop("mapping three pages");
	madvise(start, 3 * wanted, MADV_NOHUGEPAGE);
	start[2 * wanted - 1] = 1;
	if (mincore(start, 3 * wanted, resident))
		tap_stop("mincore of three pages");
	snprintf(saw, sizeof(saw), "%d %d %d", resident[0] & 1, resident[1] & 1, resident[2] & 1);
	tap_ok(!strcmp(saw, "0 1 0"), "0 1 0", saw,
	       "mincore after a write to the middle one of three pages");
	tap_errno(EINVAL, failed(mincore(start + wanted / 2, wanted / 2, resident)),
		  "mincore in the middle of a page");
	munmap(start, 3 * wanted);
}

int probe_pagesize(int argc, char **argv)
{
	char *end;
	size_t wanted = strtoull(argv[0], &end, 10);
	long long pmd;

	(void)argc;
	if (*end || (wanted != 4096 && wanted != 16384 && wanted != 65536)) {
		fprintf(stderr, "probe pagesize: BYTES is 4096, 16384 or 65536\n");
		return 2;
	}
	tap_equal(wanted, auxv_page_size(), "AT_PAGESZ in /proc/self/auxv");
	tap_equal(wanted, getauxval(AT_PAGESZ), "getauxval(AT_PAGESZ)");
	tap_equal(wanted, sysconf(_SC_PAGESIZE), "sysconf(_SC_PAGESIZE)");
	check_smaps("KernelPageSize", wanted);
	check_smaps("MMUPageSize", wanted);
	check_hugepage_sizes(wanted);
	pmd = read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
	if (pmd < 0)
		tap_skip("the kernel has no transparent huge pages",
			 "transparent_hugepage/hpage_pmd_size");
	else
		tap_equal(pmd_bytes(wanted), pmd, "transparent_hugepage/hpage_pmd_size");
	check_mincore(wanted);
	return tap_done();
}
