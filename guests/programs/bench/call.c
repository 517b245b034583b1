/* System calls that do next to nothing, and objects that are made and thrown away. */
#define _GNU_SOURCE
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

enum { CALLS = 512, OBJECTS = 256 };

static size_t right;
static pid_t self;
static struct timespec last;
static int made[OBJECTS];

static const char *before(void)
{
	right = 0;
	self = getpid();
	return NULL;
}

static const char *check_calls(void)
{
	return right == CALLS ? NULL : "a call did not return what it should";
}

static void ask_pid(size_t times)
{
	for (size_t i = 0; i < times; i++)
		right += syscall(SYS_getpid) == self;
}

static bool is_before(const struct timespec *time, const struct timespec *other)
{
	return time->tv_sec < other->tv_sec ||
	       (time->tv_sec == other->tv_sec && time->tv_nsec < other->tv_nsec);
}

/* Through the vDSO. */
static void ask_time(size_t times)
{
	struct timespec time;

	for (size_t i = 0; i < times; i++) {
		right += !clock_gettime(CLOCK_MONOTONIC, &time) && !is_before(&time, &last);
		last = time;
	}
}

static void duplicate(size_t times)
{
	for (size_t i = 0; i < times; i++) {
		int copy = dup(STDOUT_FILENO);

		right += copy > STDERR_FILENO && !close(copy);
	}
}

static const char *setup_objects(void)
{
	struct rlimit files = { 2 * OBJECTS, 2 * OBJECTS };

	return setrlimit(RLIMIT_NOFILE, &files) ? because("setrlimit") : NULL;
}

static void churn(size_t times)
{
	for (size_t i = 0; i < times; i++)
		made[i] = eventfd(0, EFD_CLOEXEC);
	for (size_t i = 0; i < times; i++)
		right += made[i] >= 0 && !close(made[i]);
}

static const char *check_objects(void)
{
	return right == OBJECTS ? NULL : "an object was not made, or not thrown away";
}

const struct bench call_benches[] = {
	{ .name = "getpid", .unit = "call", .times = CALLS,
	  .about = "the getpid system call",
	  .before = before, .operate = ask_pid, .check = check_calls },
	{ .name = "clock_gettime", .unit = "call", .times = CALLS,
	  .about = "clock_gettime(CLOCK_MONOTONIC), by the vDSO",
	  .before = before, .operate = ask_time, .check = check_calls },
	{ .name = "dup", .unit = "dup", .times = CALLS,
	  .about = "dup of a descriptor, and the close of it",
	  .before = before, .operate = duplicate, .check = check_calls },
	{ .name = "slab", .unit = "object", .times = OBJECTS,
	  .about = "an eventfd among many: made and thrown away",
	  .setup = setup_objects, .before = before, .operate = churn, .check = check_objects },
	{ 0 },
};
