/* Files: their contents in the page cache, and the names of many. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

enum { BLOCK = 64 << 10, BLOCKS = 16, NAMES = 16 };

static int file = -1;
static char *buffer;
static size_t right;

static const char *setup(void)
{
	char path[4096];

	buffer = malloc(BLOCK);
	snprintf(path, sizeof(path), "%s/bench-XXXXXX", setting.directory);
	file = mkstemp(path);
	if (file < 0 || !buffer)
		return because("a file in %s", setting.directory);
	unlink(path);
	for (size_t i = 0; i < BLOCKS; i++) {
		memset(buffer, 'a' + i, BLOCK);
		if (pwrite(file, buffer, BLOCK, i * BLOCK) != BLOCK)
			return because("writing a file");
	}
	return NULL;
}

static const char *before(void)
{
	right = 0;
	return NULL;
}

static void read_blocks(size_t times)
{
	for (size_t i = 0; i < times; i++)
		right += pread(file, buffer, BLOCK, i * BLOCK) == BLOCK && buffer[BLOCK - 1] == 'a' + (char)i;
}

static const char *before_write(void)
{
	memset(buffer, 'z', BLOCK);
	return before();
}

static void write_blocks(size_t times)
{
	for (size_t i = 0; i < times; i++)
		right += pwrite(file, buffer, BLOCK, i * BLOCK) == BLOCK;
}

static const char *check_blocks(void)
{
	return right == BLOCKS ? NULL : "a block was not read or written whole";
}

static const char *check_written(void)
{
	char last;

	if (pread(file, &last, 1, BLOCKS * BLOCK - 1) != 1 || last != 'z')
		return "the file does not hold what was written";
	return check_blocks();
}

static void teardown(void)
{
	close(file);
	free(buffer);
}

static const char *setup_names(void)
{
	if (!setting.ext4)
		return "no directory on an ext4 was given (--ext4)";
	return chdir(setting.ext4) ? because("%s", setting.ext4) : NULL;
}

/* With no fsync: what the journal does later is not part of it. */
static void name_files(size_t times)
{
	char name[32], other[32];

	for (size_t i = 0; i < times; i++) {
		int made;

		snprintf(name, sizeof(name), "bench-%zu", i);
		made = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		right += made >= 0 && !close(made);
	}
	for (size_t i = 0; i < times; i++) {
		snprintf(name, sizeof(name), "bench-%zu", i);
		snprintf(other, sizeof(other), "renamed-%zu", i);
		right += !rename(name, other) && !unlink(other);
	}
}

static const char *check_names(void)
{
	struct stat status;

	if (right != 2 * NAMES)
		return because("a file was not made, renamed or removed");
	return stat("renamed-0", &status) && errno == ENOENT ? NULL : "a file that was removed is there";
}

static void leave(void)
{
	if (chdir("/"))
		_exit(1);
}

const struct bench file_benches[] = {
	{ .name = "read", .unit = "64 KiB", .times = BLOCKS,
	  .about = "pread of a file in the page cache",
	  .setup = setup, .before = before, .operate = read_blocks, .check = check_blocks,
	  .teardown = teardown },
	{ .name = "write", .unit = "64 KiB", .times = BLOCKS,
	  .about = "pwrite over a file in the page cache",
	  .setup = setup, .before = before_write, .operate = write_blocks, .check = check_written,
	  .teardown = teardown },
	{ .name = "ext4", .unit = "file", .times = NAMES,
	  .about = "an empty file on an ext4: made, renamed, removed",
	  .setup = setup_names, .before = before, .operate = name_files, .check = check_names,
	  .teardown = leave },
	{ 0 },
};
