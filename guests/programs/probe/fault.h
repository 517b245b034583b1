/* Touches memory that may fault, and says how it did. */
#ifndef FAULT_H
#define FAULT_H

#include "tap.h"

struct fault {
	int signal; /* 0: none */
	int code;   /* si_code */
	const void *address;
};

struct fault try_read(const volatile void *address);
struct fault try_write(volatile void *address, unsigned char value);
/* Calls it as a function without arguments. */
struct fault try_execute(const void *address);

/* Points: the fault (or, with signal 0, none), its code and its address to the byte. */
bool check_fault(struct fault saw, int signal, int code, const void *address, const char *what);
bool check_no_fault(struct fault saw, const char *what);

#endif
