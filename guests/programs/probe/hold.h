/* The mappings that `probe hold` makes. */
#ifndef HOLD_H
#define HOLD_H

#include <stddef.h>

/* Makes a mapping of each kind there is, and tells of each, or why it cannot be had. */
void hold_kinds(void);

/*
 * One line: `map NAME 0xSTART LENGTH PROT BACKING`. BACKING is what its table entries should be:
 *     page, cont-pte, pmd, cont-pmd    entries of that size, all of them valid
 *     zero                             pages, each of them the zero page
 *     hidden                           entries that the kernel remembers and hardware cannot use
 *     empty                            nothing
 */
void hold_tell(const char *name, const void *start, size_t length, int protection, const char *backing);

#endif
