/*
 * Points of a test, one line each, and the plan as the very last line:
 *
 *     ok N - text
 *     not ok N - text # wanted X saw Y
 *     ok N - text # SKIP reason
 *     1..N
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>

#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

/* Each returns whether the point was ok. */
bool tap_ok(bool holds, const char *wanted, const char *saw, const char *text, ...) PRINTF_LIKE(4, 5);
bool tap_equal(unsigned long long wanted, unsigned long long saw, const char *text, ...) PRINTF_LIKE(3, 4);
bool tap_hex(unsigned long long wanted, unsigned long long saw, const char *text, ...) PRINTF_LIKE(3, 4);
/* By errno, 0 being success: tap_errno(EINVAL, failed(munmap(…)), …). */
bool tap_errno(int wanted, int saw, const char *text, ...) PRINTF_LIKE(3, 4);
void tap_skip(const char *reason, const char *text, ...) PRINTF_LIKE(2, 3);

/* Prints the plan; returns the program's exit status. */
int tap_done(void);
/* What a check stands on is not there: a point that is not ok with errno, the plan, and the end. */
void tap_stop(const char *text, ...) PRINTF_LIKE(1, 2) __attribute__((noreturn));

/* 0, or errno when the call it is given returned -1 (or MAP_FAILED). */
int failed(long result);

#endif
