/*
 * The device tree for the next kernel: this one's, with another /chosen. Format: Devicetree Specification
 * 0.4, chapter 5. What is in /chosen: Linux Documentation/devicetree/bindings, drivers/of/kexec.c.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "kexec.h"

enum {
	MAGIC = 0xd00dfeed,
	HEADER_BYTES = 40,
	LAST_COMPATIBLE = 16,
	BEGIN_NODE = 1,
	END_NODE = 2,
	PROP = 3,
	NOP = 4,
	END = 9,
	MAX_FDT = 2 << 20, /* arch/arm64/include/asm/boot.h, MAX_FDT_SIZE */
	MAX_ADDED = 64 << 10,
};

enum { TOTAL_SIZE = 1, OFF_STRUCT, OFF_STRINGS, OFF_RESERVED, VERSION, COMPATIBLE, BOOT_CPU, STRINGS_SIZE, STRUCT_SIZE };

/* Properties of /chosen that are this boot's and not the next one's. */
static const char *const stale[] = {
	"bootargs", "linux,initrd-start", "linux,initrd-end", "linux,elfcorehdr", "linux,usable-memory-range",
	"linux,booted-from-kexec", "kaslr-seed", "rng-seed", "linux,ima-kexec-buffer",
};

struct output {
	uint8_t *bytes;
	size_t used, room;
	char *strings;
	size_t strings_used;
};

static uint32_t word(const void *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static void put(struct output *out, const void *bytes, size_t size)
{
	if (size > out->room - out->used) { /* room was reckoned: see next_fdt() */
		out->used = out->room;
		return;
	}
	memcpy(out->bytes + out->used, bytes, size);
	out->used += size;
}

static void put_word(struct output *out, uint32_t value)
{
	value = htobe32(value);
	put(out, &value, sizeof(value));
}

static void put_property(struct output *out, const char *name, const void *value, size_t size)
{
	static const uint8_t zeros[4];

	put_word(out, PROP);
	put_word(out, size);
	put_word(out, out->strings_used);
	put(out, value, size);
	put(out, zeros, -size & 3);
	strcpy(out->strings + out->strings_used, name);
	out->strings_used += strlen(name) + 1;
}

static void put_numbers(struct output *out, const char *name, uint64_t first, uint64_t second, int count)
{
	uint64_t values[2] = { htobe64(first), htobe64(second) };

	put_property(out, name, values, count * sizeof(values[0]));
}

static void put_chosen(struct output *out, const struct boot *boot)
{
	if (boot->command_line)
		put_property(out, "bootargs", boot->command_line, strlen(boot->command_line) + 1);
	if (boot->initrd.end > boot->initrd.start) {
		put_numbers(out, "linux,initrd-start", boot->initrd.start, 0, 1);
		put_numbers(out, "linux,initrd-end", boot->initrd.end, 0, 1);
	}
	if (boot->elf_header.end > boot->elf_header.start)
		put_numbers(out, "linux,elfcorehdr", boot->elf_header.start,
			    boot->elf_header.end - boot->elf_header.start, 2);
	if (boot->usable.end > boot->usable.start)
		put_numbers(out, "linux,usable-memory-range", boot->usable.start,
			    boot->usable.end - boot->usable.start, 2);
	put_property(out, "kaslr-seed", boot->random, 8);
	put_property(out, "rng-seed", boot->random + 8, RANDOM_BYTES - 8);
	put_property(out, "linux,booted-from-kexec", "", 0);
}

static bool is_stale(const char *name)
{
	for (size_t i = 0; i < sizeof(stale) / sizeof(stale[0]); i++)
		if (!strcmp(name, stale[i]))
			return true;
	return false;
}

/* Numbers of one or two cells. */
static uint64_t number(const uint8_t *value, size_t size)
{
	return size == 8 ? (uint64_t)word(value) << 32 | word(value + 4) : size == 4 ? word(value) : 0;
}

/* Where the kernel that runs was given something that it reserved by name in the map of reserved memory. */
static void note_reserved(const char *name, const uint8_t *value, size_t size, struct range reserved[2])
{
	if (!strcmp(name, "linux,initrd-start"))
		reserved[0].start = number(value, size);
	else if (!strcmp(name, "linux,initrd-end"))
		reserved[0].end = number(value, size);
	else if (!strcmp(name, "linux,elfcorehdr") && size == 16)
		reserved[1] = (struct range){ number(value, 8), number(value, 8) + number(value + 8, 8) };
}

/* Copies the structure, with another /chosen; NULL, or what is wrong with it. */
static const char *copy_structure(const uint8_t *at, const uint8_t *end, const char *strings,
				  size_t strings_size, const struct boot *boot, struct output *out,
				  struct range reserved[2])
{
	int depth = 0, chosen_depth = 0;
	bool found = false;

	while (end - at >= 4) {
		const uint8_t *token = at;
		uint32_t kind = word(at);
		size_t size = 4;

		if (kind == BEGIN_NODE) {
			const char *name = (const char *)at + 4;
			size_t length = strnlen(name, end - at - 4);

			size += align_up(length + 1, 4);
			if (size > (size_t)(end - at))
				return "the name of a node does not end";
			depth++;
			put(out, token, size);
			if (depth == 2 && !found && (!strcmp(name, "chosen") || !strncmp(name, "chosen@", 7))) {
				found = true;
				chosen_depth = depth;
				put_chosen(out, boot);
			}
		} else if (kind == END_NODE) {
			if (depth == chosen_depth)
				chosen_depth = 0;
			if (depth-- == 0)
				return "a node ends that did not begin";
			put(out, token, size);
		} else if (kind == PROP) {
			const char *name;
			uint32_t length;

			if (end - at < 12)
				return "a property is cut off";
			length = word(at + 4);
			size = 12 + align_up(length, 4);
			if (word(at + 8) >= strings_size || size > (size_t)(end - at))
				return "a property leads out of the tree";
			name = strings + word(at + 8);
			if (depth == 1 && (!strcmp(name, "#address-cells") || !strcmp(name, "#size-cells")) &&
			    number(at + 12, length) != 2)
				return "its addresses and sizes are not of two cells";
			if (depth == chosen_depth && is_stale(name))
				note_reserved(name, at + 12, length, reserved);
			else
				put(out, token, size);
		} else if (kind == END) {
			put(out, token, size);
			return depth ? "it ends inside a node" : found ? NULL : "it has no /chosen";
		} else if (kind != NOP) {
			return "it has a token of no kind";
		}
		at += size;
	}
	return "it has no end";
}

/* The map of reserved memory without the entries that are this boot's. */
static size_t copy_reserved(const uint8_t *at, const uint8_t *end, const struct range reserved[2],
			    uint8_t *out)
{
	size_t used = 0;

	for (; end - at >= 16; at += 16) {
		uint64_t start = number(at, 8), size = number(at + 8, 8);

		if (!size)
			break;
		if ((start != reserved[0].start || start + size < reserved[0].end) &&
		    start != reserved[1].start) {
			memcpy(out + used, at, 16);
			used += 16;
		}
	}
	memset(out + used, 0, 16);
	return used + 16;
}

static bool is_within(uint32_t at, uint32_t size, size_t whole)
{
	return at <= whole && size <= whole - at;
}

void *next_fdt(const void *old, size_t old_size, const struct boot *boot, size_t *size,
	       const char **problem)
{
	struct range reserved[2] = { { 0, 0 }, { 0, 0 } };
	const uint8_t *bytes = old;
	uint32_t head[10] = { 0 };
	struct output out = { 0 };
	size_t added, reserved_size;
	uint8_t *fdt = NULL;

	*problem = NULL;
	for (size_t i = 0; old_size >= HEADER_BYTES && i < 10; i++)
		head[i] = word(bytes + 4 * i);
	if (head[0] != MAGIC || head[COMPATIBLE] > LAST_COMPATIBLE + 1 || head[VERSION] < LAST_COMPATIBLE + 1 ||
	    head[TOTAL_SIZE] > old_size || head[OFF_RESERVED] > head[TOTAL_SIZE] ||
	    !is_within(head[OFF_STRUCT], head[STRUCT_SIZE], head[TOTAL_SIZE]) ||
	    !is_within(head[OFF_STRINGS], head[STRINGS_SIZE], head[TOTAL_SIZE]) ||
	    !head[STRINGS_SIZE] || bytes[head[OFF_STRINGS] + head[STRINGS_SIZE] - 1])
		*problem = "it is no flattened device tree of version 17";
	added = boot->command_line ? strlen(boot->command_line) : 0;
	if (added > MAX_ADDED / 2)
		*problem = "there is no room in it for so long a command line";
	if (*problem)
		return NULL;
	/* The header and the map of reserved memory come first, then the structure, then the strings. */
	fdt = calloc(1, old_size + 2 * MAX_ADDED);
	out.strings = malloc(head[STRINGS_SIZE] + MAX_ADDED);
	out.bytes = calloc(1, head[STRUCT_SIZE] + MAX_ADDED);
	out.room = head[STRUCT_SIZE] + MAX_ADDED;
	if (!fdt || !out.strings || !out.bytes) {
		*problem = "there is no memory for it";
		goto out;
	}
	memcpy(out.strings, bytes + head[OFF_STRINGS], head[STRINGS_SIZE]);
	out.strings_used = head[STRINGS_SIZE];
	*problem = copy_structure(bytes + head[OFF_STRUCT], bytes + head[OFF_STRUCT] + head[STRUCT_SIZE],
				  (const char *)bytes + head[OFF_STRINGS], head[STRINGS_SIZE], boot, &out,
				  reserved);
	if (*problem)
		goto out;
	reserved_size = copy_reserved(bytes + head[OFF_RESERVED], bytes + head[TOTAL_SIZE], reserved,
				      fdt + HEADER_BYTES);
	head[OFF_RESERVED] = HEADER_BYTES;
	head[OFF_STRUCT] = HEADER_BYTES + reserved_size;
	head[STRUCT_SIZE] = out.used;
	head[OFF_STRINGS] = head[OFF_STRUCT] + out.used;
	head[STRINGS_SIZE] = out.strings_used;
	head[TOTAL_SIZE] = align_up(head[OFF_STRINGS] + out.strings_used, 8);
	memcpy(fdt + head[OFF_STRUCT], out.bytes, out.used);
	memcpy(fdt + head[OFF_STRINGS], out.strings, out.strings_used);
	for (size_t i = 0; i < 10; i++) {
		uint32_t value = htobe32(head[i]);

		memcpy(fdt + 4 * i, &value, sizeof(value));
	}
	*size = head[TOTAL_SIZE];
	if (*size > MAX_FDT)
		*problem = "it is larger than 2 MiB";
out:
	free(out.strings);
	free(out.bytes);
	if (*problem) {
		free(fdt);
		return NULL;
	}
	return fdt;
}
