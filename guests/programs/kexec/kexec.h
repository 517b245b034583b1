/* Loading the next kernel: what the files of this program share. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MAX_RANGES = 64,
	ALIGNMENT = 1 << 16, /* the largest page there is: the two kernels' need not be the same */
};

struct range {
	uint64_t start, end; /* physical addresses; the end is the first one after it */
};

struct ranges {
	size_t count;
	struct range at[MAX_RANGES];
};

/* What the next kernel is told by its device tree; a range that is empty is left out. */
struct boot {
	const char *command_line;
	struct range initrd, elf_header, usable;
	const uint8_t *random; /* RANDOM_BYTES of it */
};

enum { RANDOM_BYTES = 40 }; /* kaslr-seed and rng-seed */

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & -alignment;
}

/* memory.c: 0, or -1 with errno and what was wrong. */
int read_iomem(const char *path, const char *name, struct ranges *found, const char **problem);
void *elf_core_header(const char *sys, const struct ranges *ram, const struct range *crash, size_t *size,
		      const char **problem);

/* fdt.c: a device tree for the next kernel, or NULL and what was wrong. */
void *next_fdt(const void *old, size_t old_size, const struct boot *boot, size_t *size,
	       const char **problem);

/* load.c */
int load_segments(const char *kernel, const char *initrd, const char *command_line, bool panic,
		  const char **problem);
char *read_whole(const char *path, size_t *size);
