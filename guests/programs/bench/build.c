/*
 * Something like a compiler's day: processes that are started one after the other, each of which maps its
 * sources, counts their words in a table that grows in the heap, and writes what it found.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

enum { UNITS = 2, SOURCE_BYTES = 32 << 10, BUCKETS = 1024, WORD_BYTES = 8, WORDS = 1024 };

static char directory[2048];
static const char *failure;

struct word {
	struct word *next;
	unsigned int count;
	char text[WORD_BYTES];
};

static struct word *find(struct word **table, const char *text)
{
	unsigned int hash = 5381;

	for (size_t i = 0; i < WORD_BYTES; i++)
		hash = hash * 33 + (unsigned char)text[i];
	struct word **at = &table[hash % BUCKETS];

	while (*at && memcmp((*at)->text, text, WORD_BYTES))
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (*at)
			memcpy((*at)->text, text, WORD_BYTES);
	}
	return *at;
}

int build_unit(const char *source, const char *target)
{
	struct word **table = calloc(BUCKETS, sizeof(*table));
	int file = open(source, O_RDONLY | O_CLOEXEC);
	FILE *out = fopen(target, "we");
	struct stat status;
	const char *text;

	if (file < 0 || !out || !table || fstat(file, &status))
		return 1;
	text = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (text == MAP_FAILED)
		return 1;
	for (off_t at = 0; at + WORD_BYTES <= status.st_size; at += WORD_BYTES) {
		struct word *word = find(table, text + at);

		if (!word)
			return 1;
		word->count++;
	}
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct word *word = table[i]; word; word = word->next)
			fprintf(out, "%.*s %u\n", WORD_BYTES, word->text, word->count);
	return fclose(out) ? 1 : 0;
}

static void name(char *path, size_t room, const char *kind, size_t unit)
{
	snprintf(path, room, "%s/%s-%zu", directory, kind, unit);
}

static const char *setup(void)
{
	char path[4096], word[WORD_BYTES + 1];
	unsigned int seed = 1;

	snprintf(directory, sizeof(directory), "%s/bench-XXXXXX", setting.directory);
	if (!mkdtemp(directory))
		return because("a directory in %s", setting.directory);
	for (size_t unit = 0; unit < UNITS; unit++) {
		name(path, sizeof(path), "source", unit);
		FILE *file = fopen(path, "we");

		for (size_t at = 0; file && at < SOURCE_BYTES; at += WORD_BYTES) {
			seed = seed * 1103515245u + 12345u;
			snprintf(word, sizeof(word), "w%07u", (seed >> 16) % WORDS);
			fwrite(word, 1, WORD_BYTES, file);
		}
		if (!file || fclose(file))
			return because("writing %s", path);
	}
	return NULL;
}

static void build(size_t times)
{
	char source[4096], target[4096];

	failure = NULL;
	for (size_t unit = 0; unit < times && !failure; unit++) {
		char *const argv[] = { "bench", "--unit", source, target, NULL };
		char *const environment[] = { NULL };
		pid_t child;

		name(source, sizeof(source), "source", unit);
		name(target, sizeof(target), "object", unit);
		if (posix_spawn(&child, setting.self, NULL, NULL, argv, environment))
			failure = "a unit could not be started";
		else
			failure = ended(child, 0);
	}
}

/* Every word was counted: as many as the sources have. */
static const char *check(void)
{
	char path[4096], word[WORD_BYTES + 1];
	unsigned int count;
	size_t sum = 0;

	for (size_t unit = 0; unit < UNITS && !failure; unit++) {
		name(path, sizeof(path), "object", unit);
		FILE *file = fopen(path, "re");

		while (file && fscanf(file, "%8s %u", word, &count) == 2)
			sum += count;
		if (!file || fclose(file) || unlink(path))
			return because("%s", path);
	}
	if (!failure && sum != UNITS * SOURCE_BYTES / WORD_BYTES)
		failure = "not all words were counted";
	return failure;
}

static void teardown(void)
{
	char path[4096];

	for (size_t unit = 0; unit < UNITS; unit++) {
		name(path, sizeof(path), "source", unit);
		unlink(path);
	}
	rmdir(directory);
}

const struct bench build_benches[] = {
	{ .name = "build", .unit = "unit", .times = UNITS,
	  .about = "compile-like: a process that maps a source, counts its words, writes the counts",
	  .setup = setup, .operate = build, .check = check, .teardown = teardown },
	{ 0 },
};
