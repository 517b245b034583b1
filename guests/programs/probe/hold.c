/*
 * Makes a mapping of each kind and keeps them, for someone who looks at the page tables from outside.
 *
 *     probe hold                   until its input ends
 *     probe hold NONCE SECONDS     in a process of its own that spins at EL0, SECONDS at most
 *
 * Prints a line for each kind, `map NAME 0xSTART LENGTH PROT BACKING` or `none NAME REASON`, then `held PID`.
 * NONCE is 32 hexadecimal digits: their 16 bytes stand at the start of the mapping `nonce`, so that whoever
 * has an address space before him can tell whether it is this process's. The kinds are those of hold_kinds.c.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hold.h"
#include "memory.h"
#include "probe.h"

enum { NONCE_BYTES = 16, MOST_SECONDS = 3600 };

static bool parse_nonce(const char *text, unsigned char *nonce)
{
	if (strlen(text) != 2 * NONCE_BYTES || strspn(text, "0123456789abcdef") != 2 * NONCE_BYTES)
		return false;
	for (int i = 0; i < NONCE_BYTES; i++) {
		const char digits[] = { text[2 * i], text[2 * i + 1], '\0' };

		nonce[i] = strtoul(digits, NULL, 16);
	}
	return true;
}

static void finish_telling(void)
{
	printf("held %d\n", getpid());
	fflush(stdout);
}

/* To the last CPU: the devices interrupt the first one. */
static void pin(void)
{
	cpu_set_t all, last;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	CPU_ZERO(&last);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && !CPU_COUNT(&last); cpu--)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &last);
	sched_setaffinity(0, sizeof(last), &last);
}

/* An alarm ends it: whoever started it may be gone by then. */
__attribute__((noreturn)) static void spin(const unsigned char *nonce, unsigned int seconds, int ready)
{
	unsigned char *page;
	int null;

	alarm(seconds);
	hold_kinds();
	page = map_pages(1);
	memcpy(page, nonce, NONCE_BYTES);
	hold_tell("nonce", page, page_size(), PROT_READ | PROT_WRITE, "page");
	finish_telling();
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		_exit(1);
	for (int file = 0; file < 3; file++)
		dup2(null, file);
	close(null);
	pin();
	if (write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

/* Returns once the mappings stand and have been told, so that a shell can go on. */
static int hold_in_background(const unsigned char *nonce, unsigned int seconds)
{
	int ready[2];
	char byte;

	if (pipe2(ready, O_CLOEXEC))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		close(ready[0]);
		spin(nonce, seconds, ready[1]);
	}
	close(ready[1]);
	return read(ready[0], &byte, 1) == 1 ? 0 : 1;
}

int probe_hold(int argc, char **argv)
{
	unsigned char nonce[NONCE_BYTES];
	unsigned long seconds;
	char byte, *end;

	if (argc) {
		seconds = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
		if (!seconds || *end || seconds > MOST_SECONDS || !parse_nonce(argv[0], nonce)) {
			fprintf(stderr, "probe hold: NONCE is 32 digits of 0-9a-f, SECONDS 1 to %d\n",
				MOST_SECONDS);
			return 2;
		}
		return hold_in_background(nonce, seconds);
	}
	hold_kinds();
	finish_telling();
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
