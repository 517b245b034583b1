/* Page faults, one for each page or folio that is touched. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../probe/memory.h"
#include "bench.h"

#define THP "/sys/kernel/mm/transparent_hugepage"
enum { FAULTS = 64 };

static unsigned char *area;
static size_t length, folio;
static int file = -1, child = -1, line[2];
static volatile unsigned char sink;

static const char *fresh(void)
{
	length = FAULTS * setting.page;
	area = anonymous(length);
	return area ? NULL : because("mapping");
}

static void write_pages(size_t times)
{
	for (size_t i = 0; i < times; i++)
		*(volatile unsigned char *)(area + i * setting.page) = i;
}

static const char *check_written(void)
{
	long page = untouched(area, length);

	munmap(area, length);
	return page < 0 ? NULL : "a page does not hold what was written to it";
}

/* A file in the page cache; each page of it holds its number. */
static const char *make_file(void)
{
	char path[4096];

	length = FAULTS * setting.page;
	snprintf(path, sizeof(path), "%s/bench-XXXXXX", setting.directory);
	file = mkstemp(path);
	if (file < 0)
		return because("a file in %s", setting.directory);
	unlink(path);
	for (size_t i = 0; i < FAULTS; i++) {
		unsigned char number = i;

		if (pwrite(file, &number, 1, i * setting.page) != 1)
			return because("writing a file");
	}
	return ftruncate(file, length) ? because("ftruncate") : NULL;
}

/* MADV_RANDOM: one page for a fault, and not those around it with it (mm/memory.c, do_read_fault()). */
static const char *map_file(int flags)
{
	area = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, file, 0);
	if (area == MAP_FAILED || madvise(area, length, MADV_RANDOM))
		return because("mapping a file");
	return NULL;
}

static const char *map_shared(void)
{
	return map_file(MAP_SHARED);
}

static const char *map_private(void)
{
	return map_file(MAP_PRIVATE);
}

static void read_pages(size_t times)
{
	for (size_t i = 0; i < times; i++)
		sink = *(volatile unsigned char *)(area + i * setting.page);
}

static void close_file(void)
{
	close(file);
}

/* A child that holds all pages too, so that a write to one is a copy of it. */
static const char *share(void)
{
	const char *wrong = fresh();
	char byte;

	if (wrong)
		return wrong;
	touch(area, length);
	if (pipe(line))
		return because("pipe");
	child = fork();
	if (child < 0)
		return because("fork");
	if (child == 0) {
		close(line[1]);
		_exit(read(line[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(line[0]);
	return NULL;
}

static const char *check_copied(void)
{
	const char *wrong;

	close(line[1]);
	wrong = ended(child, 0);
	return wrong ? wrong : check_written();
}

/* One folio of `folio` bytes, by one fault, and no other size that could take its place. */
static const char *only(size_t bytes, const char *value)
{
	char path[160];

	snprintf(path, sizeof(path), THP "/hugepages-%zukB/enabled", bytes >> 10);
	return write_text(path, value) ? because("%s", path) : NULL;
}

static const char *setup_thp(void)
{
	folio = pmd_bytes(setting.page);
	if (folio > setting.large / 2)
		return "the guest is too small for a huge page of one PMD entry";
	return write_text(THP "/enabled", "madvise") ? because(THP "/enabled") : NULL;
}

static const char *setup_mthp(void)
{
	folio = cont_pte_bytes(setting.page);
	return only(folio, "madvise");
}

static void teardown_mthp(void)
{
	only(folio, "never");
}

static const char *fresh_folio(void)
{
	length = folio;
	area = map_aligned(folio, folio);
	return madvise(area, folio, MADV_HUGEPAGE) ? because("madvise") : NULL;
}

static const char *check_folio(void)
{
	long long huge = smaps_bytes(area, "AnonHugePages");
	bool right = area[0] == 0 && area[folio - 1] == 0;
	unsigned char resident = 0;

	if (folio == pmd_bytes(setting.page))
		right &= huge == (long long)folio;
	/* By one fault the last page of the folio is there too. */
	right &= !mincore(area + folio - setting.page, setting.page, &resident) && (resident & 1);
	munmap(area - setting.page, folio + 2 * setting.page);
	return right ? NULL : "the fault did not bring one folio";
}

const struct bench fault_benches[] = {
	{ .name = "fault-anon", .unit = "fault", .times = FAULTS,
	  .about = "the first write to an anonymous page",
	  .before = fresh, .operate = write_pages, .check = check_written },
	{ .name = "fault-cow", .unit = "fault", .times = FAULTS,
	  .about = "a write to an anonymous page that a child has too",
	  .before = share, .operate = write_pages, .check = check_copied },
	{ .name = "fault-file", .unit = "fault", .times = FAULTS,
	  .about = "the first read of a page of a file in the page cache",
	  .setup = make_file, .before = map_shared, .operate = read_pages, .check = check_written,
	  .teardown = close_file },
	{ .name = "fault-file-cow", .unit = "fault", .times = FAULTS,
	  .about = "the first write to a page of a private mapping of a file",
	  .setup = make_file, .before = map_private, .operate = write_pages, .check = check_written,
	  .teardown = close_file },
	{ .name = "fault-thp", .unit = "fault", .times = 1,
	  .about = "the first write to a huge page of one PMD entry",
	  .setup = setup_thp, .before = fresh_folio, .operate = write_pages, .check = check_folio },
	{ .name = "fault-mthp", .unit = "fault", .times = 1,
	  .about = "the first write to a folio of one contiguous set of PTEs",
	  .setup = setup_mthp, .before = fresh_folio, .operate = write_pages, .check = check_folio,
	  .teardown = teardown_mthp },
	{ 0 },
};
