/*
 * kexec_load(2): the pieces of the next kernel, and where each has to be. For kernels without
 * kexec_file_load(2), where the kernel itself does all of this (arch/arm64/kernel/machine_kexec_file.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kexec.h"

enum {
	KERNEL_ALIGNMENT = 2 << 20, /* Linux Documentation/arch/arm64/booting.rst */
	FDT_ALIGNMENT = 2 << 20,    /* it must not cross 2 MiB, and has that much at most */
	HEADER_BYTES = 64,
	MAX_FILE = 1 << 30,
};

enum { KERNEL, INITRD, ELF_HEADER, FDT, ENTRY, SEGMENTS };

struct piece {
	void *bytes;
	size_t size;
	struct range place;
};

/*
 * A kernel that came by kexec_load is entered with nothing in x0: here is the address of its device tree,
 * and what must be 0 is (booting.rst, "Call the kernel image").
 */
static const uint32_t entry_code[] = {
	0x580000c0, /* ldr x0, tree */
	0xd2800001, /* mov x1, #0 */
	0xd2800002, /* mov x2, #0 */
	0xd2800003, /* mov x3, #0 */
	0x58000084, /* ldr x4, kernel */
	0xd61f0080, /* br x4 */
	/* tree: .quad, kernel: .quad */
};

char *read_whole(const char *path, size_t *size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	char *bytes = NULL;
	struct stat about;

	*size = 0;
	if (file < 0)
		return NULL;
	if (fstat(file, &about) || about.st_size > MAX_FILE) {
		errno = EFBIG;
	} else {
		bytes = malloc(about.st_size + 1);
		while (bytes && *size < (size_t)about.st_size) {
			ssize_t got = read(file, bytes + *size, about.st_size - *size);

			if (got > 0) {
				*size += got;
			} else if (got == 0) {
				break;
			} else if (errno != EINTR) {
				free(bytes);
				bytes = NULL;
			}
		}
	}
	close(file);
	return bytes;
}

static uint64_t field(const uint8_t *image, size_t at)
{
	uint64_t value;

	memcpy(&value, image + at, sizeof(value));
	return value;
}

/* Gives the pieces their places, one after another; false when they do not fit. */
static bool place(struct piece pieces[SEGMENTS], struct range room)
{
	const uint8_t *image = pieces[KERNEL].bytes;
	uint64_t at = align_up(room.start, KERNEL_ALIGNMENT) + field(image, 8); /* text_offset */
	uint64_t memory = field(image, 16);					 /* image_size */

	for (int i = 0; i < SEGMENTS; i++) {
		uint64_t size = i == KERNEL && memory > pieces[i].size ? memory : pieces[i].size;

		if (i != KERNEL)
			at = align_up(at, i == FDT ? FDT_ALIGNMENT : ALIGNMENT);
		if (at < room.start || size > room.end || at > room.end - size)
			return false;
		pieces[i].place = (struct range){ at, at + size };
		at += size;
	}
	return true;
}

static int find_room(bool panic, struct ranges *ram, struct range *room, struct range *crash,
		     const char **problem)
{
	struct ranges reserved;

	if (read_iomem("/proc/iomem", "System RAM", ram, problem) ||
	    read_iomem("/proc/iomem", "Crash kernel", &reserved, problem))
		return -1;
	*room = *crash = (struct range){ 0, 0 };
	for (size_t i = 0; i < reserved.count; i++)
		if (reserved.at[i].end - reserved.at[i].start > crash->end - crash->start)
			*crash = reserved.at[i];
	for (size_t i = 0; i < ram->count; i++) {
		/* The crash kernel's own memory may hold one that is loaded. */
		struct range one = ram->at[i];

		if (crash->start >= one.start && crash->end <= one.end && crash->end) {
			struct range below = { one.start, crash->start }, above = { crash->end, one.end };

			one = below.end - below.start > above.end - above.start ? below : above;
		}
		if (one.end - one.start > room->end - room->start)
			*room = one;
	}
	if (panic)
		*room = *crash;
	if (room->end == room->start) {
		*problem = panic ? "no memory is reserved for a crash kernel (crashkernel=SIZE)" :
				   "/proc/iomem names no System RAM";
		errno = EADDRNOTAVAIL;
		return -1;
	}
	return 0;
}

/* Places everything and fills in what depends on the places. */
static int prepare(struct piece pieces[SEGMENTS], const char *command_line, bool panic,
		   const char **problem)
{
	uint8_t random[RANDOM_BYTES];
	struct boot boot = { .command_line = command_line, .random = random };
	struct range room, crash;
	struct ranges ram;
	uint64_t *words;
	size_t old_size;
	char *old;

	if (find_room(panic, &ram, &room, &crash, problem))
		return -1;
	if (panic) {
		pieces[ELF_HEADER].bytes =
			elf_core_header("/sys", &ram, &crash, &pieces[ELF_HEADER].size, problem);
		if (!pieces[ELF_HEADER].bytes)
			return -1;
	}
	old = read_whole("/sys/firmware/fdt", &old_size);
	if (!old || getrandom(random, sizeof(random), 0) != sizeof(random)) {
		*problem = "/sys/firmware/fdt";
		return -1;
	}
	pieces[FDT].size = KERNEL_ALIGNMENT; /* at most */
	pieces[ENTRY].size = sizeof(entry_code) + 2 * sizeof(*words);
	words = calloc(1, pieces[ENTRY].size);
	if (!words || !place(pieces, room)) {
		*problem = "the kernel does not fit into the memory that is there for it";
		errno = ENOMEM;
		return -1;
	}
	boot.initrd = pieces[INITRD].place;
	if (panic) {
		boot.elf_header = pieces[ELF_HEADER].place;
		boot.usable = crash;
	}
	pieces[FDT].bytes = next_fdt(old, old_size, &boot, &pieces[FDT].size, problem);
	if (!pieces[FDT].bytes) {
		errno = EINVAL;
		return -1;
	}
	memcpy(words, entry_code, sizeof(entry_code));
	words[sizeof(entry_code) / sizeof(*words)] = pieces[FDT].place.start;
	words[sizeof(entry_code) / sizeof(*words) + 1] = pieces[KERNEL].place.start;
	pieces[ENTRY].bytes = words;
	return 0;
}

int load_segments(const char *kernel, const char *initrd, const char *command_line, bool panic,
		  const char **problem)
{
	struct piece pieces[SEGMENTS] = { 0 };
	struct kexec_segment segments[SEGMENTS];
	unsigned long count = 0;

	*problem = kernel;
	pieces[KERNEL].bytes = read_whole(kernel, &pieces[KERNEL].size);
	if (!pieces[KERNEL].bytes)
		return -1;
	if (pieces[KERNEL].size < HEADER_BYTES || memcmp((char *)pieces[KERNEL].bytes + 56, "ARM\x64", 4) ||
	    !field(pieces[KERNEL].bytes, 16)) {
		*problem = "the kernel is no arm64 Image with a size in its header";
		errno = ENOEXEC;
		return -1;
	}
	*problem = initrd;
	if (initrd && !(pieces[INITRD].bytes = read_whole(initrd, &pieces[INITRD].size)))
		return -1;
	if (prepare(pieces, command_line, panic, problem))
		return -1;
	for (int i = 0; i < SEGMENTS; i++) {
		struct range place = pieces[i].place;

		if (pieces[i].size)
			segments[count++] = (struct kexec_segment){
				.buf = pieces[i].bytes, .bufsz = pieces[i].size, .mem = (void *)place.start,
				.memsz = align_up(place.end - place.start, ALIGNMENT),
			};
	}
	*problem = "kexec_load";
	return syscall(SYS_kexec_load, pieces[ENTRY].place.start, count, segments,
		       KEXEC_ARCH_AARCH64 | (panic ? KEXEC_ON_CRASH : 0));
}
