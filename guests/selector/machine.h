/* What the selector asks of the machine; head.S, console.c. */
#pragma once

#include "selector.h"

/* Where a load or store of an address that does not answer is taken for an answer; head.S, exception. */
bool probe_read(uint64_t pa, uint32_t *value);
bool probe_memory(uint64_t pa);

/* To and from multiples of 64 bytes, rounded up; the ranges may overlap. */
void move_words(uint64_t to, uint64_t from, uint64_t bytes);
void cache_clean_and_invalidate(uint64_t pa, uint64_t bytes);
void cache_invalidate(uint64_t pa, uint64_t bytes);
/* crc32.c's crc32_of with the CPU's instructions; `data` is a multiple of 8. */
uint32_t crc32_by_cpu(uint32_t crc, const void *data, uint64_t bytes);
bool cpu_has_crc32(void);
uint64_t id_aa64mmfr0(void);
/* Power off through PSCI, or wait for ever. */
void stop(void) __attribute__((noreturn));

void say(const char *text);
void say_number(uint64_t number);
void say_hex(uint64_t number);
/* Nothing that follows is heard: the words have been said, or the console itself is at fault. */
void say_no_more(void);
