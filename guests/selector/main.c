/*
 * Chooses a kernel, puts it where the combined Image lay, and says where to enter it. Runs first where the
 * Image was loaded (selector_choose), then beyond all that the kernel needs (selector_place).
 */
#include "machine.h"

#define TREE_MAX IMAGE_ALIGN /* booting.rst: a device tree has at most 2 MiB */

static const struct member *chosen_member(const struct table *table, unsigned int shift)
{
	for (unsigned int i = 0; i < table->count; i++)
		if (table->members[i].page_shift == shift)
			return &table->members[i];
	return NULL;
}

static unsigned int chosen_shift;

static void begin(void)
{
	say("granule selector: ");
}

static void end(const char *text)
{
	say(text);
	say("\r\n");
	say_no_more();
}

static void __attribute__((noreturn)) end_and_stop(const char *text)
{
	say(text);
	end("; powering off");
	stop();
}

static void say_size(unsigned int shift)
{
	say_number(UINT64_C(1) << (shift - 10));
	say("K");
}

static const struct table *table_at(uint64_t base)
{
	return (const struct table *)(base + TABLE_AT);
}

void selector_failed(uint64_t esr, uint64_t elr, uint64_t far);
void selector_failed(uint64_t esr, uint64_t elr, uint64_t far)
{
	say_no_more();
	begin();
	say("exception, ESR ");
	say_hex(esr);
	say(", ELR ");
	say_hex(elr);
	say(", FAR ");
	say_hex(far);
	end_and_stop("");
}

static void __attribute__((noreturn)) in_the_way(const struct table *table, uint64_t base, const char *what)
{
	begin();
	say("this Image needs ");
	say_number((table->image_bytes + 0xfffff) >> 20);
	say(" MiB of memory from ");
	say_hex(base);
	say(" on, and ");
	end_and_stop(what);
}

static bool overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}

/* The loader has to keep image_size bytes free; one that does not would have us overwrite what it gave. */
static void check_room(const struct table *table, uint64_t base, uint64_t dtb, const struct chosen *chosen)
{
	uint64_t limit = base + table->image_bytes;

	if (base & (IMAGE_ALIGN - 1)) {
		begin();
		say("loaded at ");
		say_hex(base);
		end_and_stop(", which is no multiple of 2 MiB");
	}
	if (overlap(base, limit, dtb, dtb + chosen->tree_bytes))
		in_the_way(table, base, "the device tree lies there");
	if (overlap(base, limit, chosen->initrd_start, chosen->initrd_end))
		in_the_way(table, base, "the initrd lies there");
	if (!probe_memory(limit - 8))
		in_the_way(table, base, "there is less");
	/* What a loader left dirty in a cache would be written back over what we write there. */
	cache_clean_and_invalidate(base + table->file_bytes, table->image_bytes - table->file_bytes);
}

static unsigned int carried_by(const struct table *table)
{
	unsigned int sizes = 0;

	for (unsigned int i = 0; i < table->count; i++)
		sizes |= 1u << table->members[i].page_shift;
	return sizes;
}

static void __attribute__((noreturn)) no_size(const struct table *table)
{
	begin();
	say("this CPU has none of the page sizes of the kernels in this Image:");
	for (unsigned int i = 0; i < table->count; i++) {
		say(" ");
		say_size(table->members[i].page_shift);
	}
	end_and_stop("");
}

static void say_why(unsigned int asked, unsigned int of_cpu, unsigned int shift)
{
	begin();
	if (asked == ASKED_NONSENSE) {
		say("arm64.pagesize= is none of 4k, 16k, 64k");
	} else {
		say(of_cpu >> asked & 1 ? "this Image has no kernel with " : "this CPU has no ");
		say_size(asked);
		say(" pages");
	}
	say("; starting the ");
	say_size(shift);
	end(" kernel");
}

void selector_choose(uint64_t dtb, uint64_t base, uint64_t selector_bytes);
void selector_choose(uint64_t dtb, uint64_t base, uint64_t selector_bytes)
{
	const struct table *table = table_at(base);
	unsigned int asked, of_cpu;
	struct chosen chosen;
	bool sound;

	if (!table_is_sound(table, selector_bytes)) {
		begin();
		end_and_stop("the member table of this Image is corrupt");
	}
	sound = fdt_chosen((const void *)dtb, TREE_MAX, &chosen);
	check_room(table, base, dtb, &chosen);
	of_cpu = sizes_of_cpu(id_aa64mmfr0());
	asked = sound && chosen.bootargs ? asked_for(chosen.bootargs, chosen.bootargs_bytes) : ASKED_NOTHING;
	chosen_shift = choose(asked, of_cpu, carried_by(table));
	if (!chosen_shift)
		no_size(table);
	if (!sound) {
		begin();
		say("the device tree cannot be read; starting the ");
		say_size(chosen_shift);
		end(" kernel");
	} else if (asked != ASKED_NOTHING && asked != chosen_shift) {
		say_why(asked, of_cpu, chosen_shift);
	}
}

static void __attribute__((noreturn)) corrupt(const struct member *member, const char *how)
{
	begin();
	say("the ");
	say_size(member->page_shift);
	say(" kernel in this Image is corrupt: ");
	end_and_stop(how);
}

uint64_t selector_place(uint64_t base, uint64_t here);
uint64_t selector_place(uint64_t base, uint64_t here)
{
	/* The table moved with us; the one in the file is about to be overwritten. */
	const struct table *table = table_at(here);
	const struct member *member = chosen_member(table, chosen_shift);
	uint64_t from = base + member->offset, to = base + member->text_offset;
	uint32_t crc;

	if (member->packing == LZ4) {
		uint64_t aside = here + table->selector_bytes;

		move_words(aside, from, member->packed_bytes);
		if (lz4_unpack((const uint8_t *)aside, member->packed_bytes, (uint8_t *)to, member->bytes) !=
		    (int64_t)member->bytes)
			corrupt(member, "it does not unpack");
	} else {
		move_words(to, from, member->bytes);
	}
	crc = cpu_has_crc32() ? crc32_by_cpu(0, (const void *)to, member->bytes) :
				crc32_of(0, (const void *)to, member->bytes);
	if (crc != member->crc32)
		corrupt(member, "its CRC-32 is not the one in the member table");
	cache_invalidate(to, member->image_bytes);
	return to;
}
