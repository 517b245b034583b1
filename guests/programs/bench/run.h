/* One benchmark, run. */
#ifndef RUN_H
#define RUN_H

#include "bench.h"

enum { SAMPLES_LIMIT = 10000, WARM_UPS = 3 };

struct sampling {
	size_t samples;
	bool after_tick; /* begin each just after a timer interrupt */
};

/* Takes and prints samples; false when the benchmark's own check failed. */
bool run(const struct bench *bench, const struct sampling *sampling);

/* JSON on stdout: a string, and a member of an object that is not its first. */
void print_text(const char *text);
void print_field(const char *name, const char *text);

#endif
