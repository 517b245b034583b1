#define _GNU_SOURCE
#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "thpfs.h"

#define READ PROT_READ
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

/* Linux arch/arm64/include/uapi/asm/{hwcap,mman}.h: older C libraries lack them. */
#define HAS_BTI (1UL << 17)
#define HAS_MTE (1UL << 18)
#define GUARDED 0x10 /* PROT_BTI */
#define TAGGED 0x20  /* PROT_MTE */

enum { PAGES = 4 };

void hold_tell(const char *name, const void *start, size_t length, int protection, const char *backing)
{
	printf("map %s %p %zu %c%c%c %s\n", name, start, length, protection & PROT_READ ? 'r' : '-',
	       protection & PROT_WRITE ? 'w' : '-', protection & PROT_EXEC ? 'x' : '-', backing);
}

static void tell_none(const char *name, const char *reason)
{
	printf("none %s %s\n", name, reason);
}

/* Touches each page as the protection allows. */
static void touch(unsigned char *start, size_t length, int protection)
{
	for (size_t at = 0; at < length; at += page_size())
		if (protection & PROT_WRITE)
			start[at] = 1;
		else if (protection & PROT_READ)
			(void)*(volatile unsigned char *)(start + at);
}

static unsigned char *hold(const char *name, int protection, int flags, int file, const char *backing)
{
	size_t length = PAGES * page_size();
	unsigned char *start = mmap(NULL, length, protection, flags, file, 0);

	if (start == MAP_FAILED) {
		tell_none(name, strerror(errno));
		return NULL;
	}
	madvise(start, length, MADV_NOHUGEPAGE); /* EINVAL where there are no huge pages */
	touch(start, length, protection);
	hold_tell(name, start, length, protection, backing);
	return start;
}

/* Pages with a `ret` in each, then what is asked for; alone among mappings. */
static void hold_code(const char *name, int protection)
{
	size_t page = page_size(), length = PAGES * page;
	const uint32_t bti_c = 0xd503245f, ret = 0xd65f03c0; /* `bti c` is a hint: nothing without BTI */
	unsigned char *start = map_aligned(length, page);

	madvise(start, length, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < length; at += page) {
		memcpy(start + at, &bti_c, sizeof(bti_c));
		memcpy(start + at + sizeof(bti_c), &ret, sizeof(ret));
	}
	__builtin___clear_cache((char *)start, (char *)start + length);
	if (mprotect(start, length, protection)) {
		tell_none(name, strerror(errno));
		return;
	}
	for (size_t at = 0; at < length; at += page)
		((void (*)(void))(start + at))();
	hold_tell(name, start, length, protection, "page");
}

static void hold_anonymous(void)
{
	size_t page = page_size();
	unsigned char *start;

	hold("inaccessible", PROT_NONE, ANONYMOUS, -1, "empty");
	hold("zero", READ, ANONYMOUS, -1, "zero"); /* never written */
	hold("private", RW, ANONYMOUS, -1, "page");
	hold("write", PROT_WRITE, ANONYMOUS, -1, "page"); /* arm64 has no page that is write-only */
	hold("shared", RW, MAP_SHARED | MAP_ANONYMOUS, -1, "page");
	hold_code("executable", RX);
	hold_code("execute-only", PROT_EXEC);

	start = map_aligned(PAGES * page, page);
	madvise(start, PAGES * page, MADV_NOHUGEPAGE);
	touch(start, PAGES * page, RW);
	mprotect(start, PAGES * page, READ);
	hold_tell("read", start, PAGES * page, READ, "page");

	start = map_aligned(PAGES * page, page);
	madvise(start, PAGES * page, MADV_NOHUGEPAGE);
	touch(start, PAGES * page, RW);
	mprotect(start + page, page, PROT_NONE);
	hold_tell("before-guard", start, page, RW, "page");
	hold_tell("guard", start + page, page, PROT_NONE, "hidden");
	hold_tell("after-guard", start + 2 * page, 2 * page, RW, "page");

	start = map_aligned(PAGES * page, page);
	madvise(start, PAGES * page, MADV_NOHUGEPAGE);
	if (mlock(start, PAGES * page))
		tell_none("locked", strerror(errno));
	else
		hold_tell("locked", start, PAGES * page, RW, "page");
}

static void hold_files(void)
{
	size_t length = PAGES * page_size();
	int file = memfd_create("held", MFD_CLOEXEC), self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (file < 0 || ftruncate(file, length)) {
		tell_none("memfd", strerror(errno));
	} else {
		hold("memfd", RW, MAP_SHARED, file, "page");
		hold("memfd-private", RW, MAP_PRIVATE, file, "page");
		hold("memfd-read", READ, MAP_SHARED, file, "page");
	}
	if (self < 0)
		tell_none("file", strerror(errno));
	else
		hold("file", READ, MAP_PRIVATE, self, "page");
}

static void hold_stack(void)
{
	volatile unsigned char here = 1;
	uintptr_t page = page_size();

	hold_tell("stack", (void *)((uintptr_t)&here & -page), page, RW, "page");
	(void)here;
}

/* An address beyond the window is given only to who asks for one (Linux Documentation/arch/arm64/memory.rst). */
static void hold_high(void)
{
	uintptr_t window = page_size() == 1 << 14 ? 1UL << 47 : 1UL << 48;
	size_t length = PAGES * page_size();
	unsigned char *start = mmap((void *)(window << 3), length, RW, ANONYMOUS, -1, 0);

	if (start == MAP_FAILED || (uintptr_t)start < window) {
		tell_none("high", "addresses of user space end below the default window's end");
		return;
	}
	touch(start, length, RW);
	hold_tell("high", start, length, RW, "page");
}

static void hold_features(void)
{
	unsigned long features = getauxval(AT_HWCAP2);

	if (features & HAS_BTI)
		hold_code("guarded", RX | GUARDED);
	else
		tell_none("guarded", "the CPU has no BTI");
	if (features & HAS_MTE)
		hold("tagged", RW | TAGGED, ANONYMOUS, -1, "page");
	else
		tell_none("tagged", "the CPU has no MTE, or the machine has no tag memory");
}

/* A huge page may take a quarter of what is free: others want memory too. */
static bool fits(const char *name, size_t size)
{
	long long free_kib = read_field("/proc/meminfo", "MemFree");

	if ((long long)(size >> 10) <= free_kib / 4)
		return true;
	printf("none %s %zu kB are more than a quarter of the %lld kB that are free\n", name, size >> 10,
	       free_kib);
	return false;
}

static void set_pool(const char *path, long long count)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", count);
	write_text(path, text);
}

/* The pool shrinks at once to what it was: the page becomes a surplus one, which goes when its process does. */
static void hold_hugetlb(const char *name, size_t size, const char *backing)
{
	int flags = ANONYMOUS | MAP_HUGETLB | __builtin_ctzll(size) << MAP_HUGE_SHIFT;
	char path[128];
	unsigned char *start;
	long long before;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages", size >> 10);
	before = read_number(path);
	if (before < 0) {
		tell_none(name, "the kernel has no hugetlb pages of this size");
		return;
	}
	if (!fits(name, size))
		return;
	set_pool(path, before + 1);
	if (read_number(path) < before + 1) {
		write_text("/proc/sys/vm/compact_memory", "1");
		set_pool(path, before + 1);
	}
	start = mmap(NULL, size, RW, flags, -1, 0);
	if (start == MAP_FAILED) {
		printf("none %s mmap: %s, with %lld of %lld pages in the pool\n", name, strerror(errno),
		       read_number(path), before + 1);
	} else {
		start[0] = 1;
		hold_tell(name, start, size, RW, backing);
	}
	set_pool(path, before);
}

static bool rose(size_t size, long long before)
{
	return before >= 0 && thp_stat(size, "anon_fault_alloc") > before;
}

/*
 * A folio of one size, by one fault. Every page of it is written to: one that holds zeros alone becomes the zero
 * page when the kernel splits the folio (Linux commit b1f202060afe ("mm: remap unused subpages to shared zeropage
 * when splitting isolated thp") (in v6.12)).
 */
static void hold_folio(const char *name, size_t size, const char *backing)
{
	size_t page = page_size();
	bool is_pmd = size == pmd_bytes(page);
	long long before;
	unsigned char *start;

	if (!thp_has_switch(0) || (!is_pmd && !thp_has_switch(size))) {
		tell_none(name, "the kernel has no transparent huge pages of this size");
		return;
	}
	if (!fits(name, size))
		return;
	thp_set(0, "madvise");
	if (thp_has_switch(size))
		thp_set(size, "madvise");
	start = map_aligned(size, size);
	madvise(start, size, MADV_HUGEPAGE);
	before = thp_stat(size, "anon_fault_alloc");
	start[size / 2 + 1] = 1;
	thp_restore();
	touch(start, size, RW);
	if (is_pmd ? smaps_bytes(start, "AnonHugePages") == (long long)size : rose(size, before)) {
		hold_tell(name, start, size, RW, backing);
		return;
	}
	munmap(start, size);
	tell_none(name, "no free memory is contiguous enough");
}

void hold_kinds(void)
{
	size_t page = page_size();

	hold_anonymous();
	hold_files();
	hold_stack();
	hold_high();
	hold_features();
	hold_hugetlb("hugetlb-cont-pte", cont_pte_bytes(page), "cont-pte");
	hold_hugetlb("hugetlb-pmd", pmd_bytes(page), "pmd");
	hold_hugetlb("hugetlb-cont-pmd", cont_pmd_bytes(page), "cont-pmd");
	/* Last, the largest first: making room for one that is larger may split those that are there. */
	hold_folio("folio-pmd", pmd_bytes(page), "pmd");
	hold_folio("folio-cont-pte", cont_pte_bytes(page), "cont-pte");
	hold_folio("folio-small", 4 * page, "page");
}
