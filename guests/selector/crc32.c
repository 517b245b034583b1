/* CRC-32 as in ISO 3309 and zlib: for CPUs without the CRC32 instructions, and for the member table. */
#include "selector.h"

#define POLYNOMIAL 0xedb88320u /* bits reversed */

static uint32_t table[256];

static void fill(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		table[byte] = crc;
	}
}

uint32_t crc32_of(uint32_t crc, const void *data, uint64_t bytes)
{
	const uint8_t *at = data;

	if (!table[1])
		fill();
	crc = ~crc;
	while (bytes--)
		crc = crc >> 8 ^ table[(crc ^ *at++) & 0xff];
	return ~crc;
}
