/*
 * One program for all that a guest is asked about its memory: `probe SUBCOMMAND [ARGUMENTS]`. Called as
 * `getconf`, which busybox lacks, it answers for PAGE_SIZE (getconf(1)).
 */
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe.h"

static const struct {
	const char *name;
	const char *arguments;
	int least, most; /* arguments */
	int (*run)(int argc, char **argv);
	const char *about;
} subcommands[] = {
	{ "pagesize", "BYTES", 1, 1, probe_pagesize, "every witness says that a page has BYTES" },
	{ "mapping", "", 0, 0, probe_mapping, "mmap, mprotect, munmap, mremap and madvise work by the page" },
	{ "fork", "", 0, 1, probe_fork, "fork shares pages until one side writes" },
	{ "filemap", "DIRECTORY", 1, 1, probe_filemap, "mappings of files there, and of a memfd" },
	{ "guard", "", 0, 0, probe_guard, "forbidden accesses fault, at the exact address" },
	{ "hugetlb", "BYTES...", 1, 16, probe_hugetlb, "hugetlb pages of these sizes" },
	{ "thp", "", 0, 0, probe_thp, "a transparent huge page of one PMD entry, and its split" },
	{ "mthp", "LIMIT_BYTES", 1, 1, probe_mthp, "each size of transparent huge pages up to a limit" },
	{ "swap", "", 0, 0, probe_swap, "pages go out to swap and come back (swap must be on)" },
	{ "tcp", "ADDRESS PORT BYTES", 3, 3, probe_tcp, "a peer that echoes returns every byte" },
	{ "hold", "[NONCE SECONDS]", 0, 2, probe_hold, "make a mapping of each kind, list and keep them" },
	{ "pages", "PID", 1, 1, probe_pages, "pagemap and kpageflags of a process's pages, binary" },
	{ "pageflags", "", 0, 0, probe_pageflags, "kpageflags of frame numbers on stdin, binary" },
	{ "direct", "read|write DEVICE BLOCK SKIP COUNT OFFSET", 6, 6, probe_direct,
	  "direct I/O from or to a buffer that begins OFFSET bytes into a page" },
};

#define COUNT (sizeof(subcommands) / sizeof(subcommands[0]))

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: probe SUBCOMMAND [ARGUMENTS]\n\n");
	for (size_t i = 0; i < COUNT; i++)
		fprintf(out, "  %-9s %-18s %s\n", subcommands[i].name, subcommands[i].arguments,
			subcommands[i].about);
	return status;
}

static int getconf(const char *name)
{
	if (strcmp(name, "PAGE_SIZE") && strcmp(name, "PAGESIZE")) {
		fprintf(stderr, "getconf: this one knows PAGE_SIZE only\n");
		return 2;
	}
	printf("%ld\n", sysconf(_SC_PAGESIZE));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc && !strcmp(basename(argv[0]), "getconf"))
		return getconf(argc == 2 ? argv[1] : "");
	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return usage(stdout, 0);
	for (size_t i = 0; argc >= 2 && i < COUNT; i++)
		if (!strcmp(argv[1], subcommands[i].name) && argc - 2 >= subcommands[i].least &&
		    argc - 2 <= subcommands[i].most)
			return subcommands[i].run(argc - 2, argv + 2);
	return usage(stderr, 2);
}
