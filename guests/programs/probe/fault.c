#define _GNU_SOURCE
#include "fault.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf back;
static volatile struct fault caught;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	caught.signal = signal;
	caught.code = info->si_code;
	caught.address = info->si_addr;
	siglongjmp(back, 1);
}

enum access { READ, WRITE, EXECUTE };

static struct fault attempt(enum access access, void *address, unsigned char value)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction before[3];
	const int signals[] = { SIGSEGV, SIGBUS, SIGILL };

	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &action, &before[i]);
	memset((void *)&caught, 0, sizeof(caught));
	if (sigsetjmp(back, 1) == 0) {
		if (access == READ)
			(void)*(volatile unsigned char *)address;
		else if (access == WRITE)
			*(volatile unsigned char *)address = value;
		else
			((void (*)(void))address)();
	}
	for (int i = 0; i < 3; i++)
		sigaction(signals[i], &before[i], NULL);
	return (struct fault){ caught.signal, caught.code, caught.address };
}

struct fault try_read(const volatile void *address)
{
	return attempt(READ, (void *)address, 0);
}

struct fault try_write(volatile void *address, unsigned char value)
{
	return attempt(WRITE, (void *)address, value);
}

struct fault try_execute(const void *address)
{
	return attempt(EXECUTE, (void *)address, 0);
}

static const char *code_name(struct fault fault)
{
	if (fault.signal == SIGSEGV && fault.code == SEGV_MAPERR)
		return "SEGV_MAPERR";
	if (fault.signal == SIGSEGV && fault.code == SEGV_ACCERR)
		return "SEGV_ACCERR";
	if (fault.signal == SIGBUS && fault.code == BUS_ADRERR)
		return "BUS_ADRERR";
	return "another code";
}

static void describe(struct fault fault, char *text, size_t room)
{
	if (!fault.signal)
		snprintf(text, room, "no fault");
	else
		snprintf(text, room, "SIG%s %s (%d) at %p", sigabbrev_np(fault.signal), code_name(fault),
			 fault.code, fault.address);
}

bool check_fault(struct fault saw, int signal, int code, const void *address, const char *what)
{
	struct fault wanted = { signal, code, address };
	char wanted_text[96], saw_text[96];

	describe(wanted, wanted_text, sizeof(wanted_text));
	describe(saw, saw_text, sizeof(saw_text));
	return tap_ok(saw.signal == signal && (!signal || (saw.code == code && saw.address == address)),
		      wanted_text, saw_text, "%s", what);
}

bool check_no_fault(struct fault saw, const char *what)
{
	return check_fault(saw, 0, 0, NULL, what);
}
