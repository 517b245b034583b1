/* Processes: made, replaced, ended, and taking turns. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { SWITCHES = 64, STATUS = 7 };

static unsigned char *area;
static int child;
static struct shared {
	volatile size_t turns; /* of the other process */
} *shared;
static size_t turns_before;

const char *ended(int process, int status)
{
	int seen;

	if (process <= 0)
		return because("a child");
	if (waitpid(process, &seen, 0) != process)
		return because("waitpid");
	return WIFEXITED(seen) && WEXITSTATUS(seen) == status ? NULL : "a child did not end as it should";
}

static const char *populate(void)
{
	area = anonymous(setting.large);
	if (!area)
		return because("mapping %zu bytes", setting.large);
	touch(area, setting.large);
	return NULL;
}

static void depopulate(void)
{
	munmap(area, setting.large);
}

/* The child looks at the last page and ends; it runs when its parent waits for it. */
static void fork_once(size_t times)
{
	(void)times;
	child = fork();
	if (child == 0)
		_exit(!area || area[setting.large - setting.page] ==
				       (unsigned char)(setting.large / setting.page - 1) ? STATUS : 1);
}

static const char *check_child(void)
{
	return ended(child, STATUS);
}

static const char *small(void)
{
	area = NULL;
	return NULL;
}

static const char *fork_failed;

static void fork_and_wait(size_t times)
{
	fork_once(times);
	fork_failed = ended(child, STATUS);
}

static const char *check_fork(void)
{
	return fork_failed;
}

static void execute(size_t times)
{
	char *const argv[] = { "bench", "--nothing", NULL }, *const environment[] = { NULL };

	(void)times;
	if (posix_spawn(&child, setting.self, NULL, NULL, argv, environment))
		child = -1;
	fork_failed = ended(child, 0);
}

/* Another process of the same rank on the same CPU: each that yields gives its turn to the other. */
static const char *setup_other(void)
{
	shared = mmap(NULL, setting.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return because("mapping");
	shared->turns = 0;
	child = fork();
	if (child < 0)
		return because("fork");
	while (child == 0) {
		shared->turns++;
		sched_yield();
	}
	return NULL;
}

static const char *before_turns(void)
{
	turns_before = shared->turns;
	return NULL;
}

static void take_turns(size_t times)
{
	for (size_t i = 0; i < times / 2; i++)
		sched_yield();
}

static const char *check_turns(void)
{
	/* Without real-time rank the scheduler need not switch at each yield. */
	return shared->turns - turns_before >= SWITCHES / 2 ? NULL : "the other process did not get its turns";
}

static void end_other(void)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	munmap(shared, setting.page);
}

const struct bench process_benches[] = {
	{ .name = "fork", .unit = "fork", .times = 1,
	  .about = "fork until it returns to the parent, which has the large area, each page written",
	  .setup = populate, .operate = fork_once, .check = check_child, .teardown = depopulate,
	  .child = &child },
	{ .name = "fork-exit", .unit = "fork", .times = 1,
	  .about = "fork of a small process, its exit, and the wait for it",
	  .setup = small, .operate = fork_and_wait, .check = check_fork },
	{ .name = "exec", .unit = "exec", .times = 1,
	  .about = "a program that ends at once: started, and waited for",
	  .operate = execute, .check = check_fork },
	{ .name = "switch", .unit = "switch", .times = SWITCHES,
	  .about = "from one process to another that yields back",
	  .setup = setup_other, .before = before_turns, .operate = take_turns, .check = check_turns,
	  .teardown = end_other },
	{ 0 },
};
