/* mmap, mprotect, munmap, mremap, madvise, brk, msync and mlock work by the page, and refuse what is not. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fault.h"
#include "memory.h"
#include "probe.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

/* The kernel's own answer: a C library may refuse an offset before it is asked. */
static long raw_mmap(void *address, size_t length, int flags, int file, off_t offset)
{
	return syscall(SYS_mmap, address, length, RW, flags, file, offset);
}

/* Each page gets its own number in its first and last byte. */
static void number_pages(unsigned char *start, size_t count)
{
	size_t page = page_size();

	for (size_t i = 0; i < count; i++)
		start[i * page] = start[(i + 1) * page - 1] = i + 1;
}

static bool has_number(const unsigned char *start, size_t index, unsigned char number)
{
	size_t page = page_size();

	return start[index * page] == number && start[(index + 1) * page - 1] == number;
}

static void check_misaligned(size_t page)
{
	unsigned char *start = map_pages(4);
	size_t half = page / 2; /* still a multiple of 4096 where pages are larger */
	int file = memfd_create("offsets", MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, 4 * page))
		tap_stop("a memfd of four pages");
	for (size_t off = 1; off; off = off == 1 ? half : 0) {
		tap_errno(EINVAL, failed(munmap(start + off, page)), "munmap %zu bytes into a page", off);
		tap_errno(EINVAL, failed(mprotect(start + off, page, PROT_READ)),
			  "mprotect %zu bytes into a page", off);
		tap_errno(EINVAL, failed((long)mremap(start + off, page, 2 * page, MREMAP_MAYMOVE)),
			  "mremap %zu bytes into a page", off);
		tap_errno(EINVAL, failed(raw_mmap(start + off, page, ANONYMOUS | MAP_FIXED, -1, 0)),
			  "mmap with MAP_FIXED %zu bytes into a page", off);
		tap_errno(EINVAL, failed(raw_mmap(NULL, page, MAP_SHARED, file, off)),
			  "mmap of a file at offset %zu", off);
		tap_errno(EINVAL, failed(madvise(start + off, page, MADV_DONTNEED)),
			  "madvise %zu bytes into a page", off);
		tap_errno(EINVAL, failed(msync(start + off, page, MS_SYNC)),
			  "msync %zu bytes into a page", off);
	}
	if (page > 4096)
		tap_errno(EINVAL, failed(raw_mmap(NULL, page, MAP_SHARED, file, 4096)),
			  "mmap of a file at offset 4096");
	else
		tap_errno(0, failed(raw_mmap(NULL, page, MAP_SHARED, file, 4096)),
			  "mmap of a file at offset 4096, which is a page");
	tap_errno(EINVAL, failed(raw_mmap(NULL, 0, ANONYMOUS, -1, 0)), "mmap of no bytes");
	tap_errno(EINVAL, failed(munmap(start, 0)), "munmap of no bytes");
	close(file);
	munmap(start, 4 * page);
}

static void check_rounding(size_t page)
{
	unsigned char *start = mmap(NULL, 4 * page, PROT_NONE, ANONYMOUS, -1, 0);
	unsigned char resident;

	if (start == MAP_FAILED || raw_mmap(start, page + 1, ANONYMOUS | MAP_FIXED, -1, 0) == -1)
		tap_stop("mapping a page and a byte");
	check_no_fault(try_write(start + 2 * page - 1, 1),
		       "a mapping of a page and a byte has two whole pages");
	check_fault(try_write(start + 2 * page, 1), SIGSEGV, SEGV_ACCERR, start + 2 * page,
		    "and not a third");
	tap_errno(0, failed(munmap(start, 1)), "munmap of one byte");
	tap_errno(ENOMEM, failed(mincore(start, page, &resident)), "takes the whole page away");
	tap_errno(0, failed(mincore(start + page, page, &resident)), "and leaves the next one");
	tap_errno(0, failed(mprotect(start + page, 1, PROT_READ)), "mprotect of one byte");
	check_fault(try_write(start + 2 * page - 1, 1), SIGSEGV, SEGV_ACCERR, start + 2 * page - 1,
		    "holds to the end of its page");
	munmap(start + page, 3 * page);
}

static void check_one_of_three(size_t page)
{
	unsigned char *start = map_pages(3);

	number_pages(start, 3);
	tap_errno(0, failed(mprotect(start + page, page, PROT_READ)),
		  "mprotect of the middle one of three pages");
	check_no_fault(try_write(start + page - 1, 1), "the page before stays writable to its last byte");
	check_no_fault(try_write(start + 2 * page, 3),
		       "the page after stays writable from its first byte");
	check_fault(try_write(start + page, 9), SIGSEGV, SEGV_ACCERR, start + page,
		    "the middle page is read-only from its first byte");
	check_fault(try_write(start + 2 * page - 1, 9), SIGSEGV, SEGV_ACCERR, start + 2 * page - 1,
		    "to its last byte");
	tap_equal(1, has_number(start, 1, 2), "and keeps its contents");
	tap_errno(0, failed(mprotect(start + page, page, PROT_NONE)),
		  "mprotect of the middle page to nothing");
	check_fault(try_read(start + page), SIGSEGV, SEGV_ACCERR, start + page, "it cannot be read");
	tap_errno(0, failed(mprotect(start + page, page, RW)), "mprotect of the middle page back");
	tap_equal(1, has_number(start, 1, 2), "its contents are still there");

	tap_errno(0, failed(madvise(start + page, page, MADV_DONTNEED)),
		  "MADV_DONTNEED of the middle page");
	tap_equal(1, has_number(start, 1, 0), "it reads as zero");
	tap_equal(2, has_number(start, 0, 1) + has_number(start, 2, 3),
		  "the neighbours keep their contents");

	tap_errno(0, failed(munmap(start + page, page)), "munmap of the middle page");
	check_fault(try_read(start + page), SIGSEGV, SEGV_MAPERR, start + page,
		    "it is gone from its first byte");
	check_fault(try_read(start + 2 * page - 1), SIGSEGV, SEGV_MAPERR, start + 2 * page - 1,
		    "to its last byte");
	tap_equal(2, has_number(start, 0, 1) + has_number(start, 2, 3),
		  "the neighbours keep their contents again");
	munmap(start, 3 * page);
}

static void check_fixed(size_t page)
{
	unsigned char *start = map_pages(3);

	number_pages(start, 3);
	tap_errno(EEXIST, failed(raw_mmap(start + page, page, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)),
		  "MAP_FIXED_NOREPLACE over a page in use");
	tap_equal(3, has_number(start, 0, 1) + has_number(start, 1, 2) + has_number(start, 2, 3),
		  "harms nothing");
	tap_hex((uintptr_t)start + page, raw_mmap(start + page, page, ANONYMOUS | MAP_FIXED, -1, 0),
		"MAP_FIXED over a page in use");
	tap_equal(1, has_number(start, 1, 0), "gives a fresh page");
	tap_equal(2, has_number(start, 0, 1) + has_number(start, 2, 3), "between the old neighbours");
	munmap(start, 3 * page);
}

static void check_mremap(size_t page)
{
	enum { BEFORE = 8, AFTER = 24 };
	unsigned char *start = map_pages(BEFORE), *room, *moved;
	size_t kept = 0, zeros = 0;

	number_pages(start, BEFORE);
	moved = mremap(start, BEFORE * page, AFTER * page, MREMAP_MAYMOVE);
	if (moved == MAP_FAILED)
		tap_stop("mremap from %d to %d pages", BEFORE, AFTER);
	for (size_t i = 0; i < AFTER; i++) {
		kept += i < BEFORE && has_number(moved, i, i + 1);
		zeros += i >= BEFORE && has_number(moved, i, 0);
	}
	tap_equal(BEFORE, kept, "pages that kept their contents while mremap let %d grow to %d", BEFORE,
		  AFTER);
	tap_equal(AFTER - BEFORE, zeros, "new pages that read as zero");

	room = map_pages(AFTER);
	start = mremap(moved, BEFORE * page, BEFORE * page, MREMAP_MAYMOVE | MREMAP_FIXED, room + page);
	tap_hex((uintptr_t)room + page, (uintptr_t)start,
		"mremap with MREMAP_FIXED moves to the page asked for");
	kept = 0;
	for (size_t i = 0; start != MAP_FAILED && i < BEFORE; i++)
		kept += has_number(start, i, i + 1);
	tap_equal(BEFORE, kept, "pages that kept their contents in the move");
	check_fault(try_read(moved), SIGSEGV, SEGV_MAPERR, moved, "their old place is empty");
	check_no_fault(try_read(moved + BEFORE * page), "up to the last page moved");

	tap_hex((uintptr_t)start, (uintptr_t)mremap(start, BEFORE * page, page + 1, 0),
		"mremap shrinks in place, rounding up to pages");
	tap_equal(2, has_number(start, 0, 1) + has_number(start, 1, 2),
		  "two pages are left with their contents");
	check_fault(try_read(start + 2 * page), SIGSEGV, SEGV_MAPERR, start + 2 * page, "and no third");
	munmap(moved + BEFORE * page, (AFTER - BEFORE) * page);
	munmap(room, AFTER * page);
}

static void check_brk(size_t page)
{
	uintptr_t before = (uintptr_t)sbrk(0), aligned = (before + page - 1) & -page;
	unsigned char *end = (unsigned char *)aligned;

	tap_errno(0, failed(brk(end + 1)), "brk one byte into a page");
	check_no_fault(try_write(end + page - 1, 1), "makes that page whole");
	check_fault(try_write(end + page, 1), SIGSEGV, SEGV_MAPERR, end + page, "and no other");
	tap_errno(0, failed(brk(end)), "brk back to the page's start");
	check_fault(try_read(end), SIGSEGV, SEGV_MAPERR, end, "takes it away");
	brk((void *)before);
}

static void check_sync_and_lock(size_t page)
{
	unsigned char *start = map_pages(3);
	long long before = read_field("/proc/self/status", "VmLck");

	tap_errno(0, failed(msync(start, 3 * page, MS_SYNC)), "msync of three pages");
	tap_errno(0, failed(mlock(start + page - 1, 2)),
		  "mlock of two bytes on either side of a page's end");
	tap_equal(before + 2 * page / 1024, read_field("/proc/self/status", "VmLck"),
		  "VmLck in kB: two pages more");
	tap_errno(0, failed(munlock(start + page - 1, 2)), "munlock of the same");
	tap_equal(before, read_field("/proc/self/status", "VmLck"), "VmLck in kB: as before");
	munmap(start + page, page);
	tap_errno(ENOMEM, failed(msync(start, 3 * page, MS_SYNC)), "msync across a hole");
	tap_errno(ENOMEM, failed(mprotect(start, 3 * page, RW)), "mprotect across a hole");
	munmap(start, 3 * page);
}

int probe_mapping(int argc, char **argv)
{
	size_t page = page_size();

	(void)argc, (void)argv;
	check_misaligned(page);
	check_rounding(page);
	check_one_of_three(page);
	check_fixed(page);
	check_mremap(page);
	check_brk(page);
	check_sync_and_lock(page);
	return tap_done();
}
