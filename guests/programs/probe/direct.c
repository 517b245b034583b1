/*
 * Direct I/O on a block device, with a buffer that begins where it is told to: busybox's dd falls back to the
 * page cache, without a word, when its buffer is not aligned.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe.h"

static int failed(const char *what)
{
	perror(what);
	return 1;
}

/* All of a block, or less at the end of a pipe. */
static ssize_t whole(int fd, char *buffer, size_t size, int writing)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = writing ? write(fd, buffer + done, size - done)
				    : read(fd, buffer + done, size - done);
		if (n <= 0)
			return n < 0 ? n : (ssize_t)done;
		done += n;
	}
	return done;
}

/* read DEVICE BLOCK SKIP COUNT OFFSET: to stdout; write: from stdin. OFFSET is the buffer's, in its page. */
int probe_direct(int argc, char **argv)
{
	(void)argc;
	int writing = !strcmp(argv[0], "write");
	size_t block = strtoul(argv[2], NULL, 0), offset = strtoul(argv[5], NULL, 0);
	unsigned long skip = strtoul(argv[3], NULL, 0), count = strtoul(argv[4], NULL, 0);
	int fd = open(argv[1], (writing ? O_WRONLY : O_RDONLY) | O_DIRECT);

	if (fd < 0)
		return failed(argv[1]);
	char *buffer = mmap(NULL, block + offset, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		return failed("mmap");
	buffer += offset;
	if (lseek(fd, (off_t)(skip * block), SEEK_SET) < 0)
		return failed("lseek");
	for (unsigned long i = 0; i < count; i++) {
		if (whole(writing ? STDIN_FILENO : fd, buffer, block, 0) != (ssize_t)block)
			return failed("read");
		if (whole(writing ? fd : STDOUT_FILENO, buffer, block, 1) != (ssize_t)block)
			return failed("write");
	}
	return 0;
}
