/*
 * Counts how often each instruction of a guest is executed between two marks, and writes the counts to a
 * descriptor: `-plugin PATH,out=FD`. The marks are hints that do nothing (guests/programs/bench/measure.h).
 *
 * Each instruction of the kernel has a number of its own, which the translated code adds to: exact, whatever
 * leaves a block in its middle. All of user space is one number, since processes share addresses. The guest
 * executes not one instruction more for it. For one vCPU, in one thread.
 *
 * For each pair of marks: a head, then an entry for each instruction that was executed, all little-endian as
 * the host is (harness/bench/counts.py reads them).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu_plugin.h"

enum {
	BEGIN_HINT = 0xd5032e1f, /* hint #0x70 */
	END_HINT = 0xd5032e3f,	 /* hint #0x71 */
	PER_PAGE = 1024,	 /* instructions in 4 KiB */
	BUCKETS = 1 << 14,
	WRITTEN_AT_ONCE = 4096,
};

#define PAGE_MASK 0xfffULL

struct head {
	uint64_t magic; /* "granules" */
	uint64_t user;	/* instructions of user space */
	uint64_t kernel_entries;
};

struct entry {
	uint64_t va;
	uint64_t count;
	uint32_t opcode;
	uint32_t zero;
};

/* 4 KiB of the kernel's addresses. */
struct page {
	struct page *next;
	uint64_t va;
	uint64_t counts[PER_PAGE];
	uint32_t opcodes[PER_PAGE];
};

EXPORTED int qemu_plugin_version = PLUGIN_INTERFACE;

static struct page *pages[BUCKETS];
static uint64_t user;
static int out = -1;
static bool between;

static void fail(const char *what)
{
	fprintf(stderr, "granule's counter: %s\n", what);
	exit(1);
}

static void put(const void *bytes, size_t length)
{
	const char *next = bytes;

	while (length > 0) {
		ssize_t written = write(out, next, length);

		if (written <= 0)
			fail("the counts cannot be written");
		next += written;
		length -= written;
	}
}

static struct page *page_of(uint64_t va)
{
	struct page **at = &pages[(va >> 12) % BUCKETS];

	while (*at && (*at)->va != (va & ~PAGE_MASK))
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			fail("no memory");
		(*at)->va = va & ~PAGE_MASK;
	}
	return *at;
}

static void at_begin(unsigned int vcpu, void *data)
{
	(void)vcpu, (void)data;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct page *page = pages[i]; page; page = page->next)
			memset(page->counts, 0, sizeof(page->counts));
	user = 0;
	between = true;
}

static uint64_t entries(void)
{
	uint64_t count = 0;

	for (size_t i = 0; i < BUCKETS; i++)
		for (struct page *page = pages[i]; page; page = page->next)
			for (size_t at = 0; at < PER_PAGE; at++)
				count += page->counts[at] != 0;
	return count;
}

static void at_end(unsigned int vcpu, void *data)
{
	static struct entry held[WRITTEN_AT_ONCE];
	struct head head = { .user = user, .kernel_entries = entries() };
	size_t count = 0;

	(void)vcpu, (void)data;
	if (!between)
		return;
	between = false;
	memcpy(&head.magic, "granules", sizeof(head.magic));
	put(&head, sizeof(head));
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct page *page = pages[i]; page; page = page->next)
			for (size_t at = 0; at < PER_PAGE; at++) {
				if (!page->counts[at])
					continue;
				held[count++] = (struct entry){ .va = page->va + 4 * at,
								.count = page->counts[at],
								.opcode = page->opcodes[at] };
				if (count == WRITTEN_AT_ONCE) {
					put(held, sizeof(held));
					count = 0;
				}
			}
	put(held, count * sizeof(held[0]));
}

static void on_block(plugin_id id, struct plugin_block *block)
{
	size_t length = qemu_plugin_tb_n_insns(block);

	(void)id;
	for (size_t i = 0; i < length; i++) {
		struct plugin_instruction *instruction = qemu_plugin_tb_get_insn(block, i);
		uint64_t va = qemu_plugin_insn_vaddr(instruction), *number = &user;
		uint32_t opcode;

		memcpy(&opcode, qemu_plugin_insn_data(instruction), sizeof(opcode));
		if (opcode == BEGIN_HINT || opcode == END_HINT) {
			on_execution mark = opcode == BEGIN_HINT ? at_begin : at_end;

			qemu_plugin_register_vcpu_insn_exec_cb(instruction, mark, REGISTERS_UNTOUCHED, NULL);
			continue;
		}
		if (va >> 63) {
			struct page *page = page_of(va);
			size_t at = (va & PAGE_MASK) / sizeof(opcode);

			page->opcodes[at] = opcode;
			number = &page->counts[at];
		}
		qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, number, 1);
	}
}

EXPORTED int qemu_plugin_install(plugin_id id, const struct plugin_machine *machine, int argc, char **argv)
{
	(void)machine;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			out = atoi(argv[i] + 4);
	if (out < 0) {
		fprintf(stderr, "granule's counter: out=DESCRIPTOR was not given\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
	return 0;
}
