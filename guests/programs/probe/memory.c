#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static unsigned int log2_of(size_t value)
{
	return 63 - __builtin_clzll(value);
}

/* A table is one page of 8-byte descriptors, so each level resolves three bits less than a page has. */
size_t pmd_bytes(size_t page)
{
	return page << (log2_of(page) - 3);
}

size_t pud_bytes(size_t page)
{
	return page << 2 * (log2_of(page) - 3);
}

/* Entries in a contiguous set, level 3 and level 2: 4K 16 and 16, 16K 128 and 32, 64K 32 and 32. */
size_t cont_pte_bytes(size_t page)
{
	unsigned int entries = log2_of(page) == 12 ? 4 : log2_of(page) == 14 ? 7 : 5;

	return page << entries;
}

size_t cont_pmd_bytes(size_t page)
{
	unsigned int entries = log2_of(page) == 12 ? 4 : 5;

	return pmd_bytes(page) << entries;
}

unsigned char *map_pages(size_t count)
{
	size_t length = count * page_size();
	void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		tap_stop("mapping %zu pages", count);
	madvise(start, length, MADV_NOHUGEPAGE); /* EINVAL where there are no huge pages */
	return start;
}

unsigned char *map_aligned(size_t length, size_t align)
{
	size_t page = page_size();
	unsigned char *all, *start;

	all = mmap(NULL, length + align + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (all == MAP_FAILED)
		tap_stop("reserving %zu bytes of address space", length + align + page);
	start = (unsigned char *)(((uintptr_t)all + page + align - 1) & ~(align - 1));
	if (mprotect(start, length, PROT_READ | PROT_WRITE))
		tap_stop("mapping %zu bytes", length);
	return start;
}

int read_pagemap(const void *start, size_t count, uint64_t *words)
{
	off_t offset = (uintptr_t)start / page_size() * sizeof(*words);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t length = count * sizeof(*words), done = 0;

	if (pagemap < 0)
		return errno;
	while (done < length) {
		ssize_t got = pread(pagemap, (char *)words + done, length - done, offset + done);

		if (got <= 0)
			break;
		done += got;
	}
	close(pagemap);
	return done == length ? 0 : EIO;
}

static void check_words(const uint64_t *words, size_t count, const char *what)
{
	size_t present = 0, following = 0;
	uint64_t first = PAGEMAP_PFN(words[0]);

	for (size_t i = 0; i < count; i++) {
		if (words[i] & PAGEMAP_PRESENT)
			present++;
		if (PAGEMAP_PFN(words[i]) == first + i)
			following++;
	}
	if (!tap_equal(count, present, "%s: pages present of %zu", what, count))
		return;
	if (first == 0) {
		tap_skip("the kernel hides frame numbers", "%s is one physical run", what);
		return;
	}
	tap_equal(count, following, "%s: frames that follow the first one, of %zu", what, count);
	tap_equal(0, first % count, "%s: first frame 0x%llx modulo %zu", what,
		  (unsigned long long)first, count);
}

void check_one_run(const unsigned char *start, size_t length, const char *what)
{
	size_t count = length / page_size();
	uint64_t *words = calloc(count, sizeof(*words));
	int error = words ? read_pagemap(start, count, words) : ENOMEM;

	if (error == ENOENT)
		tap_skip("the kernel has no /proc/self/pagemap", "%s is one physical run", what);
	else if (error)
		tap_errno(0, error, "%s: reading %zu words of /proc/self/pagemap", what, count);
	else
		check_words(words, count, what);
	free(words);
}

long long smaps_bytes(const void *start, const char *field)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	size_t room = 0, length = strlen(field);
	long long found = -1;
	char *line = NULL;
	bool here = false;

	while (smaps && found < 0 && getline(&line, &room, smaps) > 0) {
		unsigned long long from, to;

		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			here = from <= (uintptr_t)start && (uintptr_t)start < to;
		else if (here && !strncmp(line, field, length) && line[length] == ':')
			found = strtoll(line + length + 1, NULL, 10) * 1024;
	}
	free(line);
	if (smaps)
		fclose(smaps);
	return found;
}

bool read_text(const char *path, char *text, size_t room)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = file < 0 ? -1 : read(file, text, room - 1);

	if (file >= 0)
		close(file);
	if (got < 0)
		return false;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

int write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), error;

	if (file < 0)
		return errno;
	error = write(file, text, strlen(text)) < 0 ? errno : 0;
	close(file);
	return error;
}

long long read_number(const char *path)
{
	char text[64];

	return read_text(path, text, sizeof(text)) ? strtoll(text, NULL, 10) : -1;
}

long long read_field(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	size_t room = 0, length = strlen(name);
	long long found = -1;
	char *line = NULL;

	while (file && found < 0 && getline(&line, &room, file) > 0)
		if (!strncmp(line, name, length) && (line[length] == ' ' || line[length] == ':'))
			found = strtoll(line + length + 1, NULL, 10);
	free(line);
	if (file)
		fclose(file);
	return found;
}
