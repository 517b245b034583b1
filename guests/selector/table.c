/* Whether the member table can be believed: a file may have been damaged, or made by somebody else. */
#include "selector.h"

#define CRC_FROM offsetof(struct table, count)

_Static_assert(sizeof(struct member) == 128, "as harness/kernels/combined.py packs it");
_Static_assert(sizeof(struct table) == 48 + MEMBERS_MAX * 128, "as harness/kernels/combined.py packs it");

static bool is_page_multiple(uint64_t value)
{
	return !(value & 4095);
}

static bool member_is_sound(const struct member *member, const struct table *table)
{
	if (member->page_shift != 12 && member->page_shift != 14 && member->page_shift != 16)
		return false;
	if (member->offset > BYTES_MAX || member->packed_bytes > BYTES_MAX || member->bytes > BYTES_MAX ||
	    member->image_bytes > BYTES_MAX || member->text_offset >= IMAGE_ALIGN)
		return false;
	if (!is_page_multiple(member->offset) || !is_page_multiple(member->text_offset))
		return false;
	if (member->offset < table->selector_bytes || !member->packed_bytes ||
	    member->offset + member->packed_bytes > table->file_bytes)
		return false;
	/* An Image is no shorter than its header, and image_size covers the file and .bss. */
	if (member->bytes < 64 || member->image_bytes < member->bytes ||
	    member->text_offset + member->image_bytes > table->work_offset)
		return false;
	if (member->packing == STORED)
		return member->packed_bytes == member->bytes;
	return member->packing == LZ4 && table->work_offset + table->selector_bytes + member->packed_bytes <=
						 table->image_bytes;
}

bool table_is_sound(const struct table *table, uint64_t selector_bytes)
{
	static const char magic[8] = TABLE_MAGIC;
	unsigned int sizes = 0;

	for (unsigned int i = 0; i < sizeof(magic); i++)
		if (table->magic[i] != magic[i])
			return false;
	if (table->version != TABLE_VERSION)
		return false;
	if (crc32_of(0, (const uint8_t *)table + CRC_FROM, sizeof(*table) - CRC_FROM) != table->crc32)
		return false;
	if (!table->count || table->count > MEMBERS_MAX || table->selector_bytes != selector_bytes)
		return false;
	if (table->file_bytes > BYTES_MAX || table->work_offset > 2 * BYTES_MAX ||
	    table->image_bytes > 4 * BYTES_MAX)
		return false;
	if (!is_page_multiple(table->file_bytes) || !is_page_multiple(table->work_offset) ||
	    !is_page_multiple(table->image_bytes))
		return false;
	if (table->work_offset < table->file_bytes ||
	    table->work_offset + table->selector_bytes > table->image_bytes)
		return false;
	for (unsigned int i = 0; i < table->count; i++) {
		const struct member *member = &table->members[i];

		if (!member_is_sound(member, table) || sizes >> member->page_shift & 1)
			return false;
		sizes |= 1u << member->page_shift;
	}
	return true;
}
