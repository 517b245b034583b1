/* The switches of transparent huge pages (Documentation/admin-guide/mm/transhuge.rst). */
#ifndef THPFS_H
#define THPFS_H

#include <stdbool.h>
#include <stddef.h>

#define THP_DIRECTORY "/sys/kernel/mm/transparent_hugepage"

/* Whether there is a switch for this size (0: the one for all sizes). */
bool thp_has_switch(size_t size);
/* Sets a switch to `value`, remembering what it was; stops the probe when that fails. */
void thp_set(size_t size, const char *value);
/* Puts every switch back, the last one set first. */
void thp_restore(void);

/* A counter of hugepages-SIZEkB/stats; -1: there is none. */
long long thp_stat(size_t size, const char *name);

#endif
