/*
 * Reads /chosen of a flattened device tree (Devicetree Specification v0.4, chapter 5), believing nothing of
 * it: every offset is checked against the tree's size, and that against a limit.
 */
#include "selector.h"

#define FDT_MAGIC 0xd00dfeedu
#define HEADER_BYTES 40u
#define VERSION 17u

enum { BEGIN_NODE = 1, END_NODE = 2, PROP = 3, NOP = 4, END = 9 };

struct walk {
	const uint8_t *tree;
	uint32_t at, end; /* of the structure block */
	uint32_t strings, strings_end;
};

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool next_word(struct walk *walk, uint32_t *word)
{
	if (walk->end - walk->at < 4)
		return false;
	*word = be32(walk->tree + walk->at);
	walk->at += 4;
	return true;
}

/* Past `bytes` of data and what pads them to four. */
static bool skip(struct walk *walk, uint32_t bytes)
{
	uint32_t left = walk->end - walk->at;

	if (bytes > left || (-bytes & 3) > left - bytes)
		return false;
	walk->at += bytes + (-bytes & 3);
	return true;
}

/* The length of a string that ends before `end`; false where it does not. */
static bool length_of(const uint8_t *tree, uint32_t at, uint32_t end, uint32_t *bytes)
{
	for (uint32_t i = at; i < end; i++) {
		if (!tree[i]) {
			*bytes = i - at;
			return true;
		}
	}
	return false;
}

static bool same(const uint8_t *text, uint32_t bytes, const char *name)
{
	for (uint32_t i = 0; i < bytes; i++)
		if (name[i] == '\0' || text[i] != (uint8_t)name[i])
			return false;
	return name[bytes] == '\0';
}

/* libfdt's fdt_nodename_eq_(): a unit address does not make another name. */
static bool is_chosen(const uint8_t *name, uint32_t bytes)
{
	uint32_t plain = 0;

	while (plain < bytes && name[plain] != '@')
		plain++;
	return same(name, plain, "chosen");
}

static uint64_t number(const uint8_t *value, uint32_t bytes)
{
	return bytes == 8 ? (uint64_t)be32(value) << 32 | be32(value + 4) : be32(value);
}

struct seen {
	bool bootargs, start, end;
};

/* Whether the string at `at` in the strings block is `name`; bounded by the length of `name`. */
static bool is_named(const struct walk *walk, uint32_t at, const char *name)
{
	for (uint32_t i = 0; at + i < walk->strings_end; i++) {
		if (walk->tree[at + i] != (uint8_t)name[i])
			return false;
		if (name[i] == '\0')
			return true;
	}
	return false;
}

static bool property(struct walk *walk, bool wanted, struct seen *seen, struct chosen *found)
{
	uint32_t bytes, name;
	const uint8_t *value;

	if (!next_word(walk, &bytes) || !next_word(walk, &name))
		return false;
	value = walk->tree + walk->at;
	if (!skip(walk, bytes) || name >= walk->strings_end - walk->strings)
		return false;
	if (!wanted)
		return true;
	name += walk->strings;
	/* Of two of one name the first counts, as for libfdt. */
	if (is_named(walk, name, "bootargs") && !seen->bootargs) {
		uint32_t text = 0;

		while (text < bytes && value[text])
			text++;
		seen->bootargs = true;
		found->bootargs = (const char *)value;
		found->bootargs_bytes = text;
	} else if (bytes != 4 && bytes != 8) {
		return true;
	} else if (is_named(walk, name, "linux,initrd-start") && !seen->start) {
		seen->start = true;
		found->initrd_start = number(value, bytes);
	} else if (is_named(walk, name, "linux,initrd-end") && !seen->end) {
		seen->end = true;
		found->initrd_end = number(value, bytes);
	}
	return true;
}

static bool walk_tree(struct walk *walk, struct chosen *found)
{
	struct seen seen = { false, false, false };
	uint32_t depth = 0, word, bytes;
	bool inside = false;

	while (next_word(walk, &word)) {
		switch (word) {
		case BEGIN_NODE:
			if (!length_of(walk->tree, walk->at, walk->end, &bytes))
				return false;
			if (depth == 1 && is_chosen(walk->tree + walk->at, bytes))
				inside = true;
			if (!skip(walk, bytes + 1))
				return false;
			depth++;
			break;
		case END_NODE:
			if (!depth)
				return false;
			depth--;
			if (inside && depth == 1)
				return true;
			break;
		case PROP:
			if (!depth || !property(walk, inside && depth == 2, &seen, found))
				return false;
			break;
		case NOP:
			break;
		case END:
			return !depth;
		default:
			return false;
		}
	}
	return false;
}

static bool within(uint32_t at, uint32_t bytes, uint32_t total)
{
	return at <= total && bytes <= total - at;
}

bool fdt_chosen(const void *fdt, uint64_t limit, struct chosen *found)
{
	const uint8_t *tree = fdt;
	struct walk walk = { .tree = tree };
	uint32_t total, struct_bytes, strings_bytes;

	*found = (struct chosen){ .bootargs = NULL };
	if (limit < HEADER_BYTES || be32(tree) != FDT_MAGIC)
		return false;
	total = be32(tree + 4);
	/* last_comp_version: readers of version 17 can read it. */
	if (total < HEADER_BYTES || total > limit || be32(tree + 20) < VERSION || be32(tree + 24) > VERSION)
		return false;
	walk.at = be32(tree + 8);
	walk.strings = be32(tree + 12);
	strings_bytes = be32(tree + 32);
	struct_bytes = be32(tree + 36);
	if (!within(walk.at, struct_bytes, total) || !within(walk.strings, strings_bytes, total))
		return false;
	walk.end = walk.at + struct_bytes;
	walk.strings_end = walk.strings + strings_bytes;
	found->tree_bytes = total;
	if (!walk_tree(&walk, found)) {
		*found = (struct chosen){ .tree_bytes = total };
		return false;
	}
	if (!found->initrd_start || found->initrd_end < found->initrd_start)
		found->initrd_start = found->initrd_end = 0;
	return true;
}
