/* fork shares pages until one side writes, and then copies exactly that page. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"
#include "probe.h"

enum { PAGES = 64, EXEC_STATUS = 42 };

/* What the child tells: it lies in a shared mapping, and turns of the two are taken over pipes. */
struct report {
	uint64_t inherited[PAGES], written[PAGES], last[PAGES]; /* pagemap words */
	size_t pages_inherited, pages_after_parent;		/* with the contents they should have */
	unsigned char shared_seen;
};

static int to_child[2], to_parent[2];

static void pass_turn(const int *line)
{
	if (write(line[1], "", 1) != 1)
		_exit(1);
}

static void await_turn(const int *line)
{
	char byte;

	if (read(line[0], &byte, 1) != 1)
		_exit(1);
}

/* The whole page holds one value, so that a copy of a part of it is found out. */
static bool holds(const unsigned char *page, unsigned char value)
{
	size_t length = page_size();

	return page[0] == value && !memcmp(page, page + 1, length - 1);
}

static unsigned char original(size_t index)
{
	return 0x40 + index;
}

/* Even pages are written by the child, odd ones by the parent. */
static void child(unsigned char *private, unsigned char *shared, struct report *report)
{
	size_t page = page_size();

	for (size_t i = 0; i < PAGES; i++)
		report->pages_inherited += holds(private + i * page, original(i));
	read_pagemap(private, PAGES, report->inherited);
	for (size_t i = 0; i < PAGES; i += 2)
		memset(private + i * page, 0xc0, page);
	read_pagemap(private, PAGES, report->written);
	shared[0] = 0xc1;
	pass_turn(to_parent);
	await_turn(to_child);
	for (size_t i = 0; i < PAGES; i++)
		report->pages_after_parent += holds(private + i * page, i % 2 ? original(i) : 0xc0);
	read_pagemap(private, PAGES, report->last);
	report->shared_seen = shared[page];
	_exit(0);
}

static size_t same_frames(const uint64_t *left, const uint64_t *right, size_t first, size_t step)
{
	size_t same = 0;

	for (size_t i = first; i < PAGES; i += step)
		same += PAGEMAP_PFN(left[i]) == PAGEMAP_PFN(right[i]);
	return same;
}

/* `before` and `after`: the parent's own writes; `between`: once the child has written. */
static void check_frames(const struct report *report, const uint64_t *before, const uint64_t *between,
			 const uint64_t *after)
{
	size_t present = 0;

	for (size_t i = 0; i < PAGES; i++)
		present += !!(before[i] & PAGEMAP_PRESENT);
	if (!tap_equal(PAGES, present, "pages of the parent that are present, of %d", PAGES))
		return;
	if (!PAGEMAP_PFN(before[0])) {
		tap_skip("the kernel hides frame numbers", "frames are shared until a write");
		return;
	}
	tap_equal(PAGES, same_frames(before, report->inherited, 0, 1),
		  "frames shared after fork, of %d", PAGES);
	tap_equal(0, same_frames(between, report->written, 0, 2),
		  "frames still shared where the child wrote");
	tap_equal(PAGES / 2, same_frames(between, report->written, 1, 2),
		  "frames shared where it did not");
	tap_equal(PAGES, same_frames(before, between, 0, 1), "frames that the parent kept");
	tap_equal(0, same_frames(after, report->last, 0, 1),
		  "frames shared after the parent wrote the others");
	tap_equal(PAGES, same_frames(report->written, report->last, 0, 1), "frames that the child kept");
}

static void check_copy_on_write(size_t page)
{
	uint64_t before[PAGES], between[PAGES], after[PAGES];
	unsigned char *private = map_pages(PAGES), *shared;
	struct report *report;
	size_t intact = 0;
	int status, error;
	pid_t pid;

	shared = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || report == MAP_FAILED || pipe(to_child) || pipe(to_parent))
		tap_stop("shared memory and pipes");
	for (size_t i = 0; i < PAGES; i++)
		memset(private + i * page, original(i), page);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		tap_stop("fork");
	if (pid == 0)
		child(private, shared, report);
	close(to_parent[1]); /* a child that dies ends the wait */
	error = read_pagemap(private, PAGES, before);
	await_turn(to_parent);
	for (size_t i = 0; i < PAGES; i++)
		intact += holds(private + i * page, original(i));
	read_pagemap(private, PAGES, between);
	for (size_t i = 1; i < PAGES; i += 2)
		memset(private + i * page, 0xf0, page);
	read_pagemap(private, PAGES, after);
	shared[page] = 0xf1;
	pass_turn(to_child);
	waitpid(pid, &status, 0);

	tap_equal(0, status, "wait status of the child");
	tap_equal(PAGES, report->pages_inherited, "pages that the child inherited with their contents");
	tap_equal(PAGES, intact, "pages of the parent that the child's writes left alone");
	tap_equal(PAGES, report->pages_after_parent,
		  "pages of the child that the parent's writes left alone");
	if (error == ENOENT)
		tap_skip("the kernel has no /proc/self/pagemap", "frames are shared until a write");
	else if (tap_errno(0, error, "reading /proc/self/pagemap"))
		check_frames(report, before, between, after);
	tap_hex(0xc1, shared[0], "a write of the child to a shared mapping shows in the parent");
	tap_hex(0xf1, report->shared_seen, "and the reverse");
}

/* vfork and exec of this program, whose answer comes back through a pipe. */
static void check_exec(size_t page)
{
	char wanted[32], saw[32] = "";
	int answer[2], status = -1;
	ssize_t got;
	pid_t pid;

	if (pipe(answer))
		tap_stop("pipe");
	fflush(stdout);
	pid = vfork();
	if (pid == 0) {
		dup2(answer[1], 1);
		execl("/proc/self/exe", "probe", "fork", "answer", (char *)NULL);
		_exit(127);
	}
	close(answer[1]);
	got = read(answer[0], saw, sizeof(saw) - 1);
	saw[got > 0 ? got : 0] = '\0';
	close(answer[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	snprintf(wanted, sizeof(wanted), "page size %zu", page);
	tap_ok(!strcmp(wanted, saw), wanted, saw, "vfork and exec of this program answer through a pipe");
	tap_equal(EXEC_STATUS, WIFEXITED(status) ? WEXITSTATUS(status) : 1000,
		  "and end with the status given");
}

int probe_fork(int argc, char **argv)
{
	size_t page = page_size();

	if (argc) {
		if (strcmp(argv[0], "answer")) {
			fprintf(stderr, "probe fork: takes no argument\n");
			return 2;
		}
		printf("page size %zu", page);
		return EXEC_STATUS;
	}
	check_copy_on_write(page);
	check_exec(page);
	return tap_done();
}
