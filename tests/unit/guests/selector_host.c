/*
 * Drives the selector's portable parts for the tests beside it. Each request on stdin is a letter and a length
 * (32 bits, of this machine's order) and that many bytes; each answer on stdout is a line. Every request is
 * put into memory of its exact length, so that the address sanitizer sees one byte too many.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "selector.h"

static uint64_t number(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void tree(const uint8_t *data, uint32_t bytes)
{
	struct chosen found;
	bool sound = fdt_chosen(data, bytes, &found);

	printf("%d %" PRIu32 " %" PRIu64 " %" PRIu64 " ", sound, found.tree_bytes, found.initrd_start,
	       found.initrd_end);
	if (!found.bootargs)
		printf("-");
	for (uint32_t i = 0; found.bootargs && i < found.bootargs_bytes; i++)
		printf("%02x", (uint8_t)found.bootargs[i]);
	printf(found.bootargs ? ".\n" : "\n");
}

/* As much room as the first eight bytes say; the rest is packed. */
static void unpack(const uint8_t *data, uint32_t bytes)
{
	uint64_t room = number(data);
	uint8_t *to = malloc(room);
	int64_t got = lz4_unpack(data + 8, bytes - 8, to, room);

	printf("%" PRId64 " %" PRIu32 "\n", got, got < 0 ? 0 : crc32_of(0, to, (uint64_t)got));
	free(to);
}

static void answer(char what, const uint8_t *data, uint32_t bytes)
{
	switch (what) {
	case 'a': /* bootargs */
		printf("%u\n", asked_for((const char *)data, bytes));
		break;
	case 's': /* ID_AA64MMFR0_EL1 */
		printf("%u\n", sizes_of_cpu(number(data)));
		break;
	case 'c': /* asked, of the CPU, carried */
		printf("%u\n", choose((unsigned int)number(data), (unsigned int)number(data + 8),
				      (unsigned int)number(data + 16)));
		break;
	case 'f':
		tree(data, bytes);
		break;
	case 't': /* selector_bytes, struct table */
		printf("%d\n", table_is_sound((const struct table *)(const void *)(data + 8), number(data)));
		break;
	case 'r':
		printf("%" PRIu32 "\n", crc32_of(0, data, bytes));
		break;
	case 'l':
		unpack(data, bytes);
		break;
	default:
		exit(2);
	}
}

int main(void)
{
	uint32_t bytes;
	int what;

	while ((what = getchar()) != EOF) {
		uint8_t *data;

		if (fread(&bytes, sizeof(bytes), 1, stdin) != 1)
			return 1;
		data = malloc(bytes);
		if (bytes && fread(data, bytes, 1, stdin) != 1)
			return 1;
		answer((char)what, data, bytes);
		free(data);
		fflush(stdout);
	}
	return 0;
}
