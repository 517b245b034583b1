/*
 * The selector: the first bytes of a combined Image, which holds a kernel for each of several page sizes.
 * docs/combined.md has the layout of the file and the rules.
 *
 * What is in choose.c, crc32.c, fdt.c, lz4.c and table.c depends on nothing else and is also compiled for
 * the host, where the unit tests drive it. The MMU is off while any of it runs here: memory is Device, so
 * that no access may be unaligned, and no FP or SIMD register may be touched.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMBERS_MAX 3
#define NAME_BYTES 64
#define TABLE_AT 64
#define TABLE_MAGIC "granule\1"
#define TABLE_VERSION 1

/* Of the file and of what it unpacks to: the limit of harness/linux/image.py. */
#define BYTES_MAX (UINT64_C(512) << 20)

/* Documentation/arch/arm64/booting.rst: an Image lies text_offset bytes from a 2 MiB boundary. */
#define IMAGE_ALIGN (UINT64_C(2) << 20)

enum packing {
	STORED = 0,
	LZ4 = 1, /* the legacy frame of lz4_Frame_format.md, which is what `lz4 -l` writes */
};

/* A kernel in the file. All numbers are little-endian. */
struct member {
	uint32_t page_shift;
	uint32_t packing;
	uint32_t crc32; /* of the unpacked Image */
	uint32_t reserved;
	uint64_t offset; /* from the start of the file; a multiple of 4096 */
	uint64_t packed_bytes;
	uint64_t bytes; /* unpacked */
	uint64_t image_bytes; /* image_size of its header */
	uint64_t text_offset;
	uint64_t reserved2;
	char name[NAME_BYTES];
};

/* Follows the 64 bytes of the Image header. */
struct table {
	char magic[8];
	uint32_t version;
	uint32_t crc32; /* of what follows it in this struct, unused members included */
	uint32_t count;
	uint32_t selector_bytes; /* the code before the first member, its stack and variables included */
	uint64_t file_bytes;
	uint64_t work_offset; /* where the selector moves, out of the way of the kernel that it unpacks */
	uint64_t image_bytes; /* of memory, from the start of the file; as image_size of the Image header */
	struct member members[MEMBERS_MAX];
};

/* table.c: true where every value is in its range. `selector_bytes` is this selector's own. */
bool table_is_sound(const struct table *table, uint64_t selector_bytes);

/* crc32.c: as zlib's; `crc` is 0, or what an earlier part gave. */
uint32_t crc32_of(uint32_t crc, const void *data, uint64_t bytes);

/* What /chosen says. */
struct chosen {
	const char *bootargs; /* NULL where there are none */
	uint32_t bootargs_bytes; /* without a NUL */
	uint32_t tree_bytes;
	uint64_t initrd_start, initrd_end; /* equal where there is none */
};

/* fdt.c: false where `fdt` is no flattened device tree of at most `limit` bytes, or a broken one. */
bool fdt_chosen(const void *fdt, uint64_t limit, struct chosen *found);

/* A set of page sizes has bit n set for pages of 1 << n bytes. */
#define SIZES_ALL ((1u << 12) | (1u << 14) | (1u << 16))

/* What a command line asks for: a page shift, or one of these. */
#define ASKED_NOTHING 0u
#define ASKED_NONSENSE 1u

/* choose.c */
unsigned int sizes_of_cpu(uint64_t id_aa64mmfr0);
unsigned int asked_for(const char *bootargs, uint32_t bytes);
/* The page shift to start: of `asked` where CPU and file have it, else the largest they have; 0 for none. */
unsigned int choose(unsigned int asked, unsigned int of_cpu, unsigned int carried);

/* lz4.c: bytes written, or -1 where the data is corrupt or does not fit. */
int64_t lz4_unpack(const uint8_t *from, uint64_t from_bytes, uint8_t *to, uint64_t to_bytes);
