/*
 * Makes one mapping of each kind and keeps them until its input ends, for someone who looks at the page
 * tables from outside. Prints `map NAME 0xSTART LENGTH PROT` for each, then `held PID`.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "probe.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

static void tell(const char *name, const void *start, size_t length, int protection)
{
	printf("map %s %p %zu %c%c%c\n", name, start, length, protection & PROT_READ ? 'r' : '-',
	       protection & PROT_WRITE ? 'w' : '-', protection & PROT_EXEC ? 'x' : '-');
}

/* Maps, touches each page as the protection allows, and tells; a kind that cannot be had is left out. */
static void hold(const char *name, size_t length, int protection, int flags, int file)
{
	size_t page = page_size();
	unsigned char *start = mmap(NULL, length, protection, flags, file, 0);

	if (start == MAP_FAILED)
		return;
	for (size_t at = 0; at < length; at += page)
		if (protection & PROT_WRITE)
			start[at] = 1;
		else if (protection & PROT_READ)
			(void)*(volatile unsigned char *)(start + at);
	tell(name, start, length, protection);
}

static void hold_huge(void)
{
	size_t length = pmd_bytes(page_size());
	unsigned char *start = map_aligned(length, length);

	if (!madvise(start, length, MADV_HUGEPAGE)) {
		start[0] = 1;
		tell("huge", start, length, RW);
	}
}

int probe_hold(int argc, char **argv)
{
	size_t page = page_size(), length = 4 * page;
	int file = memfd_create("held", MFD_CLOEXEC);
	char byte;

	(void)argc, (void)argv;
	if (file < 0 || ftruncate(file, length))
		return 1;
	hold("none", length, PROT_NONE, ANONYMOUS, -1);
	hold("zero", length, PROT_READ, ANONYMOUS, -1); /* never written: the zero page */
	hold("private", length, RW, ANONYMOUS, -1);
	hold("executable", length, PROT_READ | PROT_EXEC, ANONYMOUS, -1);
	hold("shared", length, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	hold("file-shared", length, RW, MAP_SHARED, file);
	hold("file-private", length, RW, MAP_PRIVATE, file);
	hold("file-read", length, PROT_READ, MAP_SHARED, file);
	hold("hugetlb", pmd_bytes(page), RW, ANONYMOUS | MAP_HUGETLB, -1);
	hold_huge();
	printf("held %d\n", getpid());
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
