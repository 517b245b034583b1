/*
 * Unpacks LZ4's legacy frame: a magic number, then blocks, each with its length in front (lz4's
 * doc/lz4_Frame_format.md, "Legacy frame"; doc/lz4_Block_format.md for what is in a block).
 */
#include "selector.h"

#define LEGACY_MAGIC 0x184c2102u
#define BLOCK_UNPACKED_MAX (8u << 20)
#define MATCH_MIN 4u

static uint32_t le32(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Forward, whatever overlaps: a match may repeat what it has just written. */
static void copy(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	uint64_t apart = (uint64_t)(uintptr_t)to - (uint64_t)(uintptr_t)from;

	if (!(apart & 7) && apart) {
		while (bytes && ((uintptr_t)to & 7)) {
			*to++ = *from++;
			bytes--;
		}
		while (bytes >= 8) {
			*(uint64_t *)(void *)to = *(const uint64_t *)(const void *)from;
			to += 8;
			from += 8;
			bytes -= 8;
		}
	}
	while (bytes--)
		*to++ = *from++;
}

/* A length whose first four bits were `nibble`: 15 means that more follows, and 255 that more follows that. */
static bool read_length(uint64_t *length, const uint8_t **from, const uint8_t *end)
{
	uint8_t more;

	if (*length != 15)
		return true;
	do {
		if (*from == end)
			return false;
		more = *(*from)++;
		*length += more;
	} while (more == 255);
	return true;
}

static int64_t unpack_block(const uint8_t *from, const uint8_t *end, uint8_t *to, uint64_t to_bytes)
{
	uint64_t done = 0;

	while (from < end) {
		uint8_t token = *from++;
		uint64_t literals = token >> 4, match = token & 15, back;

		if (!read_length(&literals, &from, end) || literals > (uint64_t)(end - from) ||
		    literals > to_bytes - done)
			return -1;
		copy(to + done, from, literals);
		from += literals;
		done += literals;
		if (from == end) /* the last sequence has no match */
			return (int64_t)done;
		if (end - from < 2)
			return -1;
		back = from[0] | (uint64_t)from[1] << 8;
		from += 2;
		if (!read_length(&match, &from, end) || !back || back > done)
			return -1;
		match += MATCH_MIN;
		if (match > to_bytes - done)
			return -1;
		copy(to + done, to + done - back, match);
		done += match;
	}
	return -1;
}

int64_t lz4_unpack(const uint8_t *from, uint64_t from_bytes, uint8_t *to, uint64_t to_bytes)
{
	uint64_t done = 0;

	if (from_bytes < 4 || le32(from) != LEGACY_MAGIC)
		return -1;
	from += 4;
	from_bytes -= 4;
	while (from_bytes) {
		uint64_t block_bytes, room = to_bytes - done;
		int64_t got;

		if (from_bytes < 4)
			return -1;
		block_bytes = le32(from);
		if (block_bytes > from_bytes - 4)
			return -1;
		got = unpack_block(from + 4, from + 4 + block_bytes, to + done,
				   room < BLOCK_UNPACKED_MAX ? room : BLOCK_UNPACKED_MAX);
		if (got < 0)
			return -1;
		done += (uint64_t)got;
		from += 4 + block_bytes;
		from_bytes -= 4 + block_bytes;
	}
	return (int64_t)done;
}
