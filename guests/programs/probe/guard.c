/* Forbidden accesses fault: with the right signal, for the right reason, at the exact address. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "memory.h"
#include "probe.h"

enum {
	GUARD_GAP_PAGES = 256, /* mm/mmap.c: stack_guard_gap */
	GROWTH_PAGES = 3,
	STACK_PAGES = 64,
};

static void check_guard_page(size_t page)
{
	unsigned char *start = map_pages(3), *guard = start + page;

	if (mprotect(guard, page, PROT_NONE))
		tap_stop("mprotect of a guard page");
	check_no_fault(try_write(guard - 1, 1), "the last byte before a guard page can be written");
	check_no_fault(try_write(guard + page, 1), "so can the first byte after it");
	check_fault(try_read(guard), SIGSEGV, SEGV_ACCERR, guard,
		    "reading the first byte of a guard page");
	check_fault(try_write(guard, 1), SIGSEGV, SEGV_ACCERR, guard, "writing it");
	check_fault(try_read(guard + page / 2 + 5), SIGSEGV, SEGV_ACCERR, guard + page / 2 + 5,
		    "reading a byte in the middle");
	check_fault(try_write(guard + page - 1, 1), SIGSEGV, SEGV_ACCERR, guard + page - 1,
		    "writing the last byte");
	munmap(guard, page);
	check_fault(try_read(guard), SIGSEGV, SEGV_MAPERR, guard, "reading an unmapped page");
	check_fault(try_write(guard + page - 1, 1), SIGSEGV, SEGV_MAPERR, guard + page - 1,
		    "writing its last byte");
	check_fault(try_execute(guard + 8), SIGSEGV, SEGV_MAPERR, guard + 8, "executing it");
	munmap(start, 3 * page);
}

static void check_read_only(size_t page)
{
	unsigned char *start = map_pages(1);

	start[3] = 7;
	if (mprotect(start, page, PROT_READ))
		tap_stop("mprotect to read-only");
	check_no_fault(try_read(start + 3), "a read-only page can be read");
	check_fault(try_write(start + 3, 9), SIGSEGV, SEGV_ACCERR, start + 3, "writing it");
	tap_equal(7, start[3], "leaves the byte as it was");
	munmap(start, page);
}

static void check_execution(size_t page)
{
	unsigned char *start = map_pages(1);
	const uint32_t return_instruction = 0xd65f03c0; /* ret */

	memcpy(start + 16, &return_instruction, sizeof(return_instruction));
	__builtin___clear_cache((char *)start + 16, (char *)start + 20);
	check_fault(try_execute(start + 16), SIGSEGV, SEGV_ACCERR, start + 16,
		    "executing a writable page");
	if (mprotect(start, page, PROT_READ))
		tap_stop("mprotect to read-only");
	check_fault(try_execute(start + 16), SIGSEGV, SEGV_ACCERR, start + 16,
		    "executing a read-only page");
	if (mprotect(start, page, PROT_READ | PROT_EXEC))
		tap_stop("mprotect to executable");
	check_no_fault(try_execute(start + 16), "executing an executable page");
	check_fault(try_write(start + 16, 0), SIGSEGV, SEGV_ACCERR, start + 16, "writing it");
	munmap(start, page);
}

/* A mapping that grows down stops a guard gap above what lies below it (mm/mmap.c, expand_downwards()). */
static void check_growing_down(size_t page)
{
	size_t hole = (GUARD_GAP_PAGES + GROWTH_PAGES) * page;
	unsigned char *below = map_pages(2 + GUARD_GAP_PAGES + GROWTH_PAGES);
	unsigned char *stack = below + page + hole, *last;

	munmap(below + page, hole + page);
	if (mmap(stack, page, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0) != stack)
		tap_stop("a mapping that grows down");
	last = stack - GROWTH_PAGES * page;
	check_no_fault(try_write(stack - 1, 1), "a mapping that grows down takes in the page below");
	check_no_fault(try_write(last, 1), "and more, down to the guard gap");
	check_fault(try_write(last - 1, 1), SIGSEGV, SEGV_MAPERR, last - 1, "but not into the gap");
	munmap(last, (GROWTH_PAGES + 1) * page);
	munmap(below, page);
}

static uintptr_t stack_end;

/* In the child, on a stack of its own: where the fault was, in bytes below the stack's end. */
static void on_overflow(int signal, siginfo_t *info, void *context)
{
	unsigned long long depth = stack_end - (uintptr_t)info->si_addr;

	(void)signal, (void)context;
	_exit(write(1, &depth, sizeof(depth)) == sizeof(depth) ? 0 : 1);
}

/* Frames smaller than a page, each touched; `depth` is far beyond any limit of a stack. */
__attribute__((noinline)) static int recurse(int depth)
{
	volatile char frame[512];

	frame[0] = depth;
	return depth ? recurse(depth - 1) + frame[0] : 0;
}

__attribute__((noreturn)) static void overflow(size_t limit)
{
	struct rlimit rlimit;
	stack_t other = { .ss_sp = map_pages(4), .ss_size = 4 * page_size() };
	struct sigaction action = { .sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (getrlimit(RLIMIT_STACK, &rlimit))
		_exit(1);
	rlimit.rlim_cur = limit;
	if (setrlimit(RLIMIT_STACK, &rlimit) || sigaltstack(&other, NULL) ||
	    sigaction(SIGSEGV, &action, NULL))
		_exit(1);
	_exit(recurse(1 << 30) ? 2 : 3);
}

static uintptr_t end_of_stack(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long long from, to, end = 0;
	size_t room = 0;
	char *line = NULL;

	while (maps && getline(&line, &room, maps) > 0)
		if (strstr(line, "[stack]") && sscanf(line, "%llx-%llx", &from, &to) == 2)
			end = to;
	free(line);
	if (maps)
		fclose(maps);
	return end;
}

/* Runaway recursion ends within the first page past the limit of the stack. */
static void check_stack(size_t page)
{
	size_t limit = STACK_PAGES * page;
	unsigned long long depth = 0;
	int answer[2], status = -1;
	char wanted[64], saw[64];
	ssize_t got;
	pid_t pid;

	stack_end = end_of_stack();
	if (!stack_end || pipe(answer))
		tap_stop("the stack in /proc/self/maps");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(answer[1], 1);
		overflow(limit);
	}
	close(answer[1]);
	got = read(answer[0], &depth, sizeof(depth));
	close(answer[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	snprintf(wanted, sizeof(wanted), "%zu to %zu", limit + 1, limit + page);
	snprintf(saw, sizeof(saw), "%llu (%zd bytes read, wait status 0x%x)", depth, got, status);
	tap_ok(got == sizeof(depth) && status == 0 && depth > limit && depth <= limit + page, wanted, saw,
	       "runaway recursion faults in the first page past the stack's limit: bytes from its end");
}

int probe_guard(int argc, char **argv)
{
	size_t page = page_size();

	(void)argc, (void)argv;
	check_guard_page(page);
	check_read_only(page);
	check_execution(page);
	check_growing_down(page);
	check_stack(page);
	return tap_done();
}
