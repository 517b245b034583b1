/* One benchmark: its samples, their checks, and the line of JSON that tells of them. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>

#include "../probe/memory.h"
#include "measure.h"
#include "run.h"

/* A turn of the wait that took that much longer than the quickest one saw an interrupt. */
#define INTERRUPT_TICKS 300

struct sample {
	uint64_t ticks;
	long faults;	     /* of this process, minor and major */
	long long table_kib; /* in page tables: more than before, or all of a new child's */
};
static struct sample taken[SAMPLES_LIMIT];

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/*
 * Where the counter counts instructions, a timer interrupt comes at each few millions of them. One that falls
 * into a short sample would be counted with it; right after one, there is the longest time without.
 */
static void await_tick(void)
{
	uint64_t last = now(), least = UINT64_MAX, next, took;

	for (;;) {
		/* An emulator is slow at reading the counter, and quick at this. */
		for (unsigned int i = 0; i < 1000; i++)
			asm volatile("");
		next = now();
		took = next - last;
		if (took < least)
			least = took;
		if (took - least > INTERRUPT_TICKS)
			return;
		last = next;
	}
}

static long long table_kib(int process)
{
	char path[64] = "/proc/self/status";

	if (process)
		snprintf(path, sizeof(path), "/proc/%d/status", process);
	return read_field(path, "VmPTE");
}

static const char *measured(const struct bench *bench, bool after_tick, struct sample *sample)
{
	const char *wrong = bench->before ? bench->before() : NULL;
	void (*operate)(size_t) = bench->operate;
	long long table_kib_before = bench->child ? 0 : table_kib(0);
	long faulted = faults();
	uint64_t from, to;

	if (wrong)
		return wrong;
	if (after_tick)
		await_tick();
	from = begin();
	operate(bench->times);
	to = end();
	sample->ticks = to - from;
	sample->faults = faults() - faulted;
	sample->table_kib = table_kib(bench->child ? *bench->child : 0) - table_kib_before;
	return bench->check ? bench->check() : NULL;
}

/* A sample that is not kept, between no marks. */
static const char *warmed_up(const struct bench *bench)
{
	const char *wrong = bench->before ? bench->before() : NULL;

	if (wrong)
		return wrong;
	bench->operate(bench->times);
	return bench->check ? bench->check() : NULL;
}

void print_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar((unsigned char)*text < ' ' ? ' ' : *text);
	}
	putchar('"');
}

void print_field(const char *name, const char *text)
{
	printf(",\"%s\":", name);
	print_text(text);
}

static void print_result(const struct bench *bench, size_t count, const char *verdict, const char *reason)
{
	printf("{\"name\":");
	print_text(bench->name);
	print_field("unit", bench->unit);
	print_field("about", bench->about);
	printf(",\"times\":%zu", bench->times);
	print_field("verdict", verdict);
	print_field("reason", reason);
	printf(",\"ticks\":[");
	for (size_t i = 0; i < count; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)taken[i].ticks);
	printf("],\"faults\":[");
	for (size_t i = 0; i < count; i++)
		printf("%s%ld", i ? "," : "", taken[i].faults);
	printf("],\"table_kib\":[");
	for (size_t i = 0; i < count; i++)
		printf("%s%lld", i ? "," : "", taken[i].table_kib);
	printf("]}\n");
	fflush(stdout);
}

bool run(const struct bench *bench, const struct sampling *sampling)
{
	const char *skipped = bench->setup ? bench->setup() : NULL, *wrong = NULL;
	size_t count = 0;

	if (skipped) {
		print_result(bench, 0, "skip", skipped);
		return true;
	}
	for (size_t i = 0; i < WARM_UPS && !wrong; i++)
		wrong = warmed_up(bench);
	while (count < sampling->samples && !wrong)
		wrong = measured(bench, sampling->after_tick, &taken[count++]);
	/* Samples there were, marks and all: they are told, so that whoever watched can tell them apart. */
	print_result(bench, count, wrong ? "fail" : "ok", wrong ? wrong : "");
	if (bench->teardown)
		bench->teardown();
	return !wrong;
}
