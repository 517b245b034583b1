/* Benchmarks: what each one is made of, and what they share. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One benchmark. Only `operate` is measured: it does the work `times` times over. The others return NULL when
 * all is well, else why not; what `check` returns is a failure, and then there is no number.
 */
struct bench {
	const char *name;
	const char *unit;  /* what is done `times` times: the number is for one of it */
	const char *about;
	size_t times;
	const char *(*setup)(void);  /* once; its reason is one for leaving the benchmark out */
	const char *(*before)(void); /* ahead of each sample */
	void (*operate)(size_t times);
	const char *(*check)(void);  /* after each sample; it also makes ready for the next */
	void (*teardown)(void);
	const int *child; /* the process that `operate` leaves behind, if its page tables are of interest */
};

/* One array for each family, ended by one without a name. */
extern const struct bench empty_benches[], memory_benches[], fault_benches[], process_benches[],
	message_benches[], call_benches[], file_benches[], swap_benches[], build_benches[];

/* What this run works with; set before the first benchmark. */
struct setting {
	size_t page;
	size_t large;		   /* bytes of what stands for 1 GiB */
	size_t small;		   /* bytes for work by the page: the same at each page size */
	const char *directory;	   /* for files */
	const char *ext4;	   /* a directory on an ext4, or NULL */
	const char *self;	   /* path of this program, for exec */
};
extern struct setting setting;

/* A reason with errno's words in it; valid until the next one. */
__attribute__((format(printf, 1, 2))) const char *because(const char *format, ...);

/* Anonymous memory that no huge page takes; NULL when there is none. */
unsigned char *anonymous(size_t length);
/* Writes one byte in each page: page N of it holds N, cut to a byte. */
void touch(unsigned char *start, size_t length);
/* The first page that does not hold what touch() wrote, or -1. */
long untouched(const unsigned char *start, size_t length);

/* Waits for a child; NULL when it ended with that status. */
const char *ended(int child, int status);

/* The compile-like workload's one unit, in a process of its own: the exit status. */
int build_unit(const char *source, const char *target);

#endif
