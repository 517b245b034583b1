#define _GNU_SOURCE
#include "tap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned int points, failures;

/* One point in one write: output of a process that then crashes is still whole lines. */
static bool point(bool holds, const char *wanted, const char *saw, const char *skip, const char *text,
		  va_list args)
{
	char what[256], why[512] = "";

	vsnprintf(what, sizeof(what), text, args);
	if (skip)
		snprintf(why, sizeof(why), " # SKIP %s", skip);
	else if (!holds)
		snprintf(why, sizeof(why), " # wanted %s saw %s", wanted, saw);
	printf("%sok %u - %s%s\n", holds ? "" : "not ", ++points, what, why);
	fflush(stdout);
	if (!holds)
		failures++;
	return holds;
}

bool tap_ok(bool holds, const char *wanted, const char *saw, const char *text, ...)
{
	va_list args;

	va_start(args, text);
	point(holds, wanted, saw, NULL, text, args);
	va_end(args);
	return holds;
}

static bool compared(const char *format, unsigned long long wanted, unsigned long long saw,
		     const char *text, va_list args)
{
	char wanted_text[32], saw_text[32];

	snprintf(wanted_text, sizeof(wanted_text), format, wanted);
	snprintf(saw_text, sizeof(saw_text), format, saw);
	return point(wanted == saw, wanted_text, saw_text, NULL, text, args);
}

bool tap_equal(unsigned long long wanted, unsigned long long saw, const char *text, ...)
{
	va_list args;
	bool same;

	va_start(args, text);
	same = compared("%llu", wanted, saw, text, args);
	va_end(args);
	return same;
}

bool tap_hex(unsigned long long wanted, unsigned long long saw, const char *text, ...)
{
	va_list args;
	bool same;

	va_start(args, text);
	same = compared("0x%llx", wanted, saw, text, args);
	va_end(args);
	return same;
}

static const char *error_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "success";

	return name ? name : "an unknown error";
}

bool tap_errno(int wanted, int saw, const char *text, ...)
{
	va_list args;

	va_start(args, text);
	point(wanted == saw, error_name(wanted), error_name(saw), NULL, text, args);
	va_end(args);
	return wanted == saw;
}

void tap_skip(const char *reason, const char *text, ...)
{
	va_list args;

	va_start(args, text);
	point(true, NULL, NULL, reason, text, args);
	va_end(args);
}

int tap_done(void)
{
	printf("1..%u\n", points);
	fflush(stdout);
	return failures ? 1 : 0;
}

void tap_stop(const char *text, ...)
{
	const char *error = error_name(errno);
	va_list args;

	va_start(args, text);
	point(false, "success", error, NULL, text, args);
	va_end(args);
	exit(tap_done());
}

int failed(long result)
{
	return result == -1 ? errno : 0;
}
