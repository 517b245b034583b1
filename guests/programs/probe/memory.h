/* What the subcommands share: the page size in force, mappings, and how the kernel describes them. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tap.h"

/* Bytes in a page, as the kernel says: no size is compiled in. */
size_t page_size(void);

/* Sizes of entries at a page size, from the architecture (Arm ARM DDI 0487, D8.5.2 and D8.7.1). */
size_t pmd_bytes(size_t page);
size_t pud_bytes(size_t page);
size_t cont_pte_bytes(size_t page);
size_t cont_pmd_bytes(size_t page);

/* Anonymous private pages, read-write, not to become parts of a huge page; stops the probe on failure. */
unsigned char *map_pages(size_t count);
/*
 * `length` anonymous bytes at a multiple of `align`, inaccessible on both sides: a mapping of its own.
 * Stops the probe on failure.
 */
unsigned char *map_aligned(size_t length, size_t align);

/* A word for each page of `count`, from /proc/self/pagemap; 0 or errno, ENOENT where the kernel has none. */
int read_pagemap(const void *start, size_t count, uint64_t *words);
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
/* The frame number; of a page that is present, 0 where the kernel hides it (no CAP_SYS_ADMIN). */
#define PAGEMAP_PFN(word) ((word) & ((1ULL << 55) - 1))

/* Points: `length` bytes at `start` are one physical run that is aligned to its length. */
void check_one_run(const unsigned char *start, size_t length, const char *what);

/* A field of the mapping that holds `start`, from /proc/self/smaps, in bytes; -1: none. */
long long smaps_bytes(const void *start, const char *field);

/* Small files such as those of sysfs: text without the last newline; false when it cannot be read. */
bool read_text(const char *path, char *text, size_t room);
int write_text(const char *path, const char *text); /* 0 or errno */
long long read_number(const char *path);	    /* -1: not readable */
/* A line `NAME NUMBER` or `NAME: NUMBER kB` of a file, in the file's own unit; -1: none. */
long long read_field(const char *path, const char *name);

#endif
