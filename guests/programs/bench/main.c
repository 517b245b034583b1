/*
 * Benchmarks of what a page size costs, in a guest or on hardware: `bench [OPTIONS] [NAME...]`. A line of
 * JSON for the setting, then one for each benchmark. What the options are: usage().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../probe/memory.h"
#include "bench.h"
#include "measure.h"
#include "run.h"

enum { FORMAT = 1, SAMPLES = 9 };
#define LARGE_LIMIT (1UL << 30)
#define SMALL_BYTES (4UL << 20)

struct setting setting;
static struct sampling sampling = { .samples = SAMPLES };

static const struct bench *const families[] = {
	empty_benches,	 memory_benches, fault_benches, process_benches, message_benches,
	call_benches,	 file_benches,	 swap_benches,	build_benches,
};
#define FAMILIES (sizeof(families) / sizeof(families[0]))

const char *because(const char *format, ...)
{
	static char text[200];
	int error = errno;
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length >= 0 && length < (int)sizeof(text))
		snprintf(text + length, sizeof(text) - length, ": %s", strerror(error));
	return text;
}

unsigned char *anonymous(size_t length)
{
	void *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	madvise(start, length, MADV_NOHUGEPAGE); /* EINVAL where there are no huge pages */
	return start;
}

void touch(unsigned char *start, size_t length)
{
	for (size_t at = 0; at < length; at += setting.page)
		*(volatile unsigned char *)(start + at) = at / setting.page;
}

long untouched(const unsigned char *start, size_t length)
{
	for (size_t at = 0; at < length; at += setting.page)
		if (start[at] != (unsigned char)(at / setting.page))
			return at / setting.page;
	return -1;
}

/*
 * Nothing of the kernel's that can wait comes between: kernel threads and the children of a benchmark run when
 * it sleeps or yields. Its children inherit this.
 */
static bool go_first(void)
{
	struct sched_param first = { .sched_priority = 1 };
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		return false;
	write_text("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	return !sched_setscheduler(0, SCHED_FIFO, &first);
}

static void print_setting(bool is_first)
{
	struct utsname name;

	uname(&name);
	printf("{\"format\":%d,\"page_bytes\":%zu,\"clock_hz\":%llu,\"large_bytes\":%zu,\"small_bytes\":%zu",
	       FORMAT, setting.page, (unsigned long long)clock_hz(), setting.large, setting.small);
	printf(",\"samples\":%zu,\"warm_ups\":%d,\"first\":%s", sampling.samples, WARM_UPS, is_first ? "true" : "false");
	print_field("release", name.release);
	print_field("version", name.version);
	printf("}\n");
}

/* 1 GiB, or a quarter of what memory there is, as a power of two: the same in guests of about one size. */
static size_t scaled(void)
{
	size_t memory = (size_t)read_field("/proc/meminfo", "MemTotal") * 1024, size = LARGE_LIMIT;

	while (size > memory / 4)
		size /= 2;
	return size;
}

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: bench [OPTIONS] [NAME...]\n\n"
		     "  --samples N      of each benchmark (default 9)\n"
		     "  --bytes N        what stands for 1 GiB (default: as memory allows)\n"
		     "  --directory DIR  for files (default /tmp)\n"
		     "  --ext4 DIR       on an ext4, for what is done to one\n"
		     "  --after-tick     where the counter counts instructions: begin just after a tick\n\n");
	for (size_t family = 0; family < FAMILIES; family++)
		for (const struct bench *bench = families[family]; bench->name; bench++)
			fprintf(out, "  %-16s instructions or time for one %s: %s\n", bench->name, bench->unit,
				bench->about);
	return status;
}

static bool is_wanted(const char *name, char **wanted)
{
	if (!*wanted)
		return true;
	while (*wanted && strcmp(*wanted, name))
		wanted++;
	return *wanted;
}

static bool exists(const char *name)
{
	for (size_t family = 0; family < FAMILIES; family++)
		for (const struct bench *bench = families[family]; bench->name; bench++)
			if (!strcmp(bench->name, name))
				return true;
	fprintf(stderr, "bench: there is no benchmark '%s'\n", name);
	return false;
}

static bool parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "samples", required_argument, NULL, 's' },   { "bytes", required_argument, NULL, 'b' },
		{ "directory", required_argument, NULL, 'd' }, { "ext4", required_argument, NULL, 'e' },
		{ "after-tick", no_argument, NULL, 't' },      { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 's')
			sampling.samples = strtoul(optarg, NULL, 10);
		else if (option == 'b')
			setting.large = strtoul(optarg, NULL, 10);
		else if (option == 'd')
			setting.directory = optarg;
		else if (option == 'e')
			setting.ext4 = optarg;
		else if (option == 't')
			sampling.after_tick = true;
		else
			return false;
	}
	for (int i = optind; i < argc; i++)
		if (!exists(argv[i]))
			return false;
	return sampling.samples >= 1 && sampling.samples <= SAMPLES_LIMIT && setting.large >= SMALL_BYTES;
}

/* For whoever looks at this process's tables from outside: the area, and then nothing but running. */
static int hold(const char *address, const char *bytes)
{
	void *wanted = (void *)strtoul(address, NULL, 0);
	size_t length = strtoul(bytes, NULL, 0);
	unsigned char *area = mmap(wanted, length, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (area != wanted)
		return 1;
	madvise(area, length, MADV_NOHUGEPAGE);
	touch(area, length);
	for (;;)
		asm volatile("");
}

int main(int argc, char **argv)
{
	bool right = true;

	/* What the benchmarks themselves start: nothing, and a unit of the compile-like workload. */
	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return 0;
	if (argc == 4 && !strcmp(argv[1], "--unit"))
		return build_unit(argv[2], argv[3]);
	setting = (struct setting){ .page = page_size(), .large = scaled(), .small = SMALL_BYTES,
				    .directory = "/tmp", .self = "/proc/self/exe" };
	if (argc == 4 && !strcmp(argv[1], "--hold"))
		return hold(argv[2], argv[3]);
	if (!parse(argc, argv))
		return usage(stderr, 2);
	print_setting(go_first());
	for (size_t family = 0; family < FAMILIES; family++)
		for (const struct bench *bench = families[family]; bench->name; bench++)
			if (bench == empty_benches || is_wanted(bench->name, argv + optind))
				right &= run(bench, &sampling);
	return right ? 0 : 1;
}
