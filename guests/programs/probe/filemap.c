/* Mappings of files agree with read and write, end where the file's last page ends, and fault past it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "memory.h"
#include "probe.h"

#define RW (PROT_READ | PROT_WRITE)

static unsigned char *map_file(int file, size_t pages, int flags, size_t offset)
{
	unsigned char *start = mmap(NULL, pages * page_size(), RW, flags, file, offset);

	if (start == MAP_FAILED)
		tap_stop("mapping %zu pages of a file", pages);
	return start;
}

static void fill(int file, size_t length, unsigned char value)
{
	unsigned char *bytes = malloc(length);

	if (!bytes || ftruncate(file, 0) || !memset(bytes, value, length) ||
	    pwrite(file, bytes, length, 0) != (ssize_t)length)
		tap_stop("writing %zu bytes to a file", length);
	free(bytes);
}

static bool all(const unsigned char *bytes, size_t length, unsigned char value)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

/* The file ends inside its second page; three pages are mapped. */
static void check_end(int file, int flags, const char *what)
{
	size_t page = page_size(), length = page + page / 2 + 3;
	unsigned char *start;

	fill(file, length, 0x5a);
	start = map_file(file, 3, flags, 0);
	tap_equal(1, all(start, length, 0x5a), "%s: all bytes of the file are there", what);
	tap_equal(1, all(start + length, 2 * page - length, 0), "%s: the rest of the last page is zero",
		  what);
	check_fault(try_read(start + 2 * page), SIGBUS, BUS_ADRERR, start + 2 * page,
		    "the first byte of the page after the last one");
	check_fault(try_write(start + 3 * page - 1, 1), SIGBUS, BUS_ADRERR, start + 3 * page - 1,
		    "a write to its last byte");
	munmap(start, 3 * page);
}

static void check_shared(int file, const char *what)
{
	size_t page = page_size();
	unsigned char *start, *again, byte = 0;
	struct { size_t at; unsigned char value; } spots[] = {
		{ 0, 1 }, { page - 1, 2 }, { page, 3 }, { 2 * page - 1, 4 },
	};

	fill(file, 2 * page, 0x11);
	start = map_file(file, 2, MAP_SHARED, 0);
	again = map_file(file, 2, MAP_SHARED, 0);
	for (int i = 0; i < 4; i++) {
		start[spots[i].at] = spots[i].value;
		tap_ok(pread(file, &byte, 1, spots[i].at) == 1 && byte == spots[i].value, "the byte",
		       "another",
		       "%s: a write through a shared mapping at %zu shows in pread", what, spots[i].at);
		tap_equal(spots[i].value, again[spots[i].at], "%s: and in a second mapping", what);
		byte = spots[i].value + 0x20;
		tap_ok(pwrite(file, &byte, 1, spots[i].at) == 1 && start[spots[i].at] == byte, "the byte",
		       "another", "%s: pwrite at %zu shows in the mapping", what, spots[i].at);
	}
	munmap(start, 2 * page);
	munmap(again, 2 * page);
}

static void check_private(int file, const char *what)
{
	size_t page = page_size();
	unsigned char *start, byte = 0;

	fill(file, 2 * page, 0x22);
	start = map_file(file, 2, MAP_PRIVATE, 0);
	start[page - 1] = 0x33;
	tap_ok(pread(file, &byte, 1, page - 1) == 1 && byte == 0x22, "the old byte", "another",
	       "%s: a write through a private mapping stays out of the file", what);
	tap_equal(1, start[page - 1] == 0x33 && all(start, page - 1, 0x22),
		  "%s: and changes only its byte", what);
	byte = 0x44;
	tap_ok(pwrite(file, &byte, 1, 0) == 1 && start[0] == 0x22, "the old byte", "another",
	       "%s: pwrite to a page that was copied does not show", what);
	munmap(start, 2 * page);
}

static void check_truncate(int file, const char *what)
{
	size_t page = page_size();
	unsigned char *start;

	fill(file, 3 * page, 0x66);
	start = map_file(file, 3, MAP_SHARED, 0);
	tap_equal(1, all(start, 3 * page, 0x66), "%s: three pages", what);
	tap_errno(0, failed(ftruncate(file, page + 1)),
		  "%s: ftruncate to a page and a byte under the mapping", what);
	tap_equal(1, all(start, page + 1, 0x66), "%s: what is left of the file is unchanged", what);
	tap_equal(1, all(start + page + 1, page - 1, 0), "%s: what was cut off its last page is zero",
		  what);
	check_fault(try_read(start + 2 * page), SIGBUS, BUS_ADRERR, start + 2 * page, "the page cut off");
	tap_errno(0, failed(ftruncate(file, 3 * page)), "%s: ftruncate to three pages again", what);
	check_no_fault(try_read(start + 3 * page - 1), "makes them accessible");
	tap_equal(1, all(start + page + 1, 2 * page - 1, 0), "%s: as zeros", what);
	munmap(start, 3 * page);
}

static void check_offsets(int file, const char *what)
{
	enum { PAGES = 8 };
	size_t page = page_size(), right = 0;

	if (ftruncate(file, 0) || ftruncate(file, PAGES * page))
		tap_stop("a sparse file of %d pages", PAGES);
	for (size_t i = 0; i < PAGES; i++) {
		unsigned char number = i + 1;

		if (pwrite(file, &number, 1, i * page) != 1 ||
		    pwrite(file, &number, 1, (i + 1) * page - 1) != 1)
			tap_stop("numbering the pages of a file");
	}
	for (size_t i = 0; i < PAGES; i++) {
		unsigned char *start = map_file(file, 1, MAP_SHARED, i * page);

		right += start[0] == i + 1 && start[page - 1] == i + 1;
		munmap(start, page);
	}
	tap_equal(PAGES, right, "%s: pages found at their offsets, of %d", what, PAGES);
}

static void check_file(int file, const char *what)
{
	char text[80];

	snprintf(text, sizeof(text), "%s, shared", what);
	check_end(file, MAP_SHARED, text);
	snprintf(text, sizeof(text), "%s, private", what);
	check_end(file, MAP_PRIVATE, text);
	check_shared(file, what);
	check_private(file, what);
	check_truncate(file, what);
	check_offsets(file, what);
	close(file);
}

int probe_filemap(int argc, char **argv)
{
	char path[4096];
	int file;

	(void)argc;
	if (snprintf(path, sizeof(path), "%s/probe-XXXXXX", argv[0]) >= (int)sizeof(path))
		return 2;
	file = mkstemp(path);
	if (file < 0)
		tap_stop("a file in %s", argv[0]);
	unlink(path);
	check_file(file, "file");
	file = memfd_create("probe", MFD_CLOEXEC);
	if (file < 0)
		tap_stop("memfd_create");
	check_file(file, "memfd");
	return tap_done();
}
