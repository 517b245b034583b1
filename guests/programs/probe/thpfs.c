#define _GNU_SOURCE
#include "thpfs.h"

#include <stdio.h>
#include <string.h>

#include "memory.h"

static struct {
	size_t size;
	char value[16];
} remembered[64];
static size_t remembered_count;

static void switch_path(size_t size, char *path, size_t room)
{
	if (size)
		snprintf(path, room, THP_DIRECTORY "/hugepages-%zukB/enabled", size >> 10);
	else
		snprintf(path, room, THP_DIRECTORY "/enabled");
}

/* The word in brackets of `always [madvise] never`. */
static bool chosen(size_t size, char *value, size_t room)
{
	char path[128], text[128], *open, *close;

	switch_path(size, path, sizeof(path));
	if (!read_text(path, text, sizeof(text)))
		return false;
	open = strchr(text, '[');
	close = open ? strchr(open, ']') : NULL;
	if (!close || (size_t)(close - open) > room)
		return false;
	*close = '\0';
	strcpy(value, open + 1);
	return true;
}

bool thp_has_switch(size_t size)
{
	char value[16];

	return chosen(size, value, sizeof(value));
}

static int choose(size_t size, const char *value)
{
	char path[128];

	switch_path(size, path, sizeof(path));
	return write_text(path, value);
}

void thp_set(size_t size, const char *value)
{
	if (remembered_count == sizeof(remembered) / sizeof(remembered[0]) ||
	    !chosen(size, remembered[remembered_count].value, sizeof(remembered[0].value)))
		tap_stop("reading the switch of huge pages of %zu kB", size >> 10);
	remembered[remembered_count++].size = size;
	if (choose(size, value)) {
		thp_restore();
		tap_stop("setting huge pages of %zu kB to %s", size >> 10, value);
	}
}

void thp_restore(void)
{
	while (remembered_count) {
		remembered_count--;
		choose(remembered[remembered_count].size, remembered[remembered_count].value);
	}
}

long long thp_stat(size_t size, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), THP_DIRECTORY "/hugepages-%zukB/stats/%s", size >> 10, name);
	return read_number(path);
}
