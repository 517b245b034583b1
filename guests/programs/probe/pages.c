/*
 * What the kernel says of each page that a process has: for each whose word in /proc/PID/pagemap is not 0, 24
 * bytes on stdout, three words as the CPU stores them: its address, that word, and the page's word in
 * /proc/kpageflags (0 where there is none).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "probe.h"

enum { WORDS = 512, FLAGS = 16 };

static uint64_t page_flags(int file, uint64_t frame)
{
	static uint64_t window[FLAGS], first = UINT64_MAX;
	static ssize_t count;

	if (frame < first || frame >= first + count) {
		ssize_t got = pread(file, window, sizeof(window), frame * sizeof(window[0]));

		first = frame;
		count = got > 0 ? got / (ssize_t)sizeof(window[0]) : 0;
	}
	return frame < first + count ? window[frame - first] : 0;
}

static void print_range(int pagemap, int flags, uint64_t from, uint64_t to)
{
	uint64_t words[WORDS], page = page_size();

	while (from < to) {
		uint64_t count = (to - from) / page < WORDS ? (to - from) / page : WORDS;
		ssize_t got = pread(pagemap, words, count * sizeof(words[0]),
				    from / page * sizeof(words[0]));

		if (got <= 0)
			return; /* such as [vsyscall] of other architectures: beyond what pagemap covers */
		got /= sizeof(words[0]);
		for (ssize_t i = 0; i < got; i++) {
			uint64_t frame = words[i] & PAGEMAP_PRESENT ? PAGEMAP_PFN(words[i]) : 0;
			uint64_t record[] = { from + i * page, words[i],
					      frame ? page_flags(flags, frame) : 0 };

			if (words[i])
				fwrite(record, sizeof(record), 1, stdout);
		}
		from += got * page;
	}
}

int probe_pages(int argc, char **argv)
{
	char path[64], *line = NULL;
	unsigned long long from, to;
	int pagemap, flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	size_t room = 0;
	FILE *maps;

	(void)argc;
	snprintf(path, sizeof(path), "/proc/%.20s/maps", argv[0]);
	maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%.20s/pagemap", argv[0]);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (!maps || pagemap < 0 || flags < 0) {
		fprintf(stderr, "probe pages: maps and pagemap of %s, /proc/kpageflags: %s\n", argv[0],
			strerror(errno));
		return 1;
	}
	while (getline(&line, &room, maps) > 0)
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			print_range(pagemap, flags, from, to);
	free(line);
	fclose(maps);
	return fflush(stdout) ? 1 : 0;
}

/* Words of /proc/kpageflags for frames given in hexadecimal on stdin; 0 where there is none. */
int probe_pageflags(int argc, char **argv)
{
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	unsigned long long frame;

	(void)argc, (void)argv;
	if (file < 0) {
		fprintf(stderr, "probe pageflags: /proc/kpageflags: %s\n", strerror(errno));
		return 1;
	}
	while (scanf("%llx", &frame) == 1) {
		uint64_t word = page_flags(file, frame);

		fwrite(&word, sizeof(word), 1, stdout);
	}
	return fflush(stdout) ? 1 : 0;
}
