/*
 * Translates addresses with libaddrxlat, for `scripts/bench tables` to compare with.
 *
 *   bench_addrxlat MEMORY BASE_PA ROOT_PA VAS ROUNDS
 *
 * MEMORY holds physical memory from BASE_PA on, with tables of 4K granules and 48-bit addresses; VAS holds
 * 64-bit addresses in the host's byte order. Prints the nanoseconds of each round on stderr, a line each, and
 * writes the physical addresses to stdout, all ones for those that do not translate.
 */
#include <fcntl.h>
#include <libkdumpfile/addrxlat.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

static const unsigned char *memory;
static uint64_t memory_bytes, base_pa;

static void put_page(const addrxlat_buffer_t *buffer)
{
	(void)buffer;
}

static addrxlat_status get_page(const addrxlat_cb_t *cb, addrxlat_buffer_t *buffer)
{
	uint64_t at = (buffer->addr.addr - base_pa) & ~UINT64_C(0xfff);

	(void)cb;
	if (at >= memory_bytes)
		return ADDRXLAT_ERR_NODATA;
	buffer->addr.addr = base_pa + at;
	buffer->ptr = memory + at;
	buffer->size = 4096;
	buffer->byte_order = ADDRXLAT_LITTLE_ENDIAN;
	buffer->put_page = put_page;
	return ADDRXLAT_OK;
}

static unsigned long read_caps(const addrxlat_cb_t *cb)
{
	(void)cb;
	return ADDRXLAT_CAPS(ADDRXLAT_MACHPHYSADDR) | ADDRXLAT_CAPS(ADDRXLAT_KPHYSADDR);
}

static const void *map(const char *path, uint64_t *bytes)
{
	struct stat about;
	int file = open(path, O_RDONLY);
	void *start;

	if (file < 0 || fstat(file, &about))
		return NULL;
	*bytes = about.st_size;
	start = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	return start == MAP_FAILED ? NULL : start;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

int main(int argc, char **argv)
{
	addrxlat_meth_t method = {
		.kind = ADDRXLAT_PGT,
		.target_as = ADDRXLAT_KPHYSADDR,
		.param.pgt.pf = {ADDRXLAT_PTE_AARCH64, 5, {12, 9, 9, 9, 9}},
	};
	addrxlat_ctx_t *context = addrxlat_ctx_new();
	addrxlat_cb_t *callbacks;
	const uint64_t *vas;
	uint64_t vas_bytes, *pas;

	if (argc != 6 || !context || !(callbacks = addrxlat_ctx_add_cb(context)))
		return 2;
	memory = map(argv[1], &memory_bytes);
	base_pa = strtoull(argv[2], NULL, 0);
	method.param.pgt.root.as = ADDRXLAT_KPHYSADDR;
	method.param.pgt.root.addr = strtoull(argv[3], NULL, 0);
	vas = map(argv[4], &vas_bytes);
	pas = malloc(vas_bytes);
	if (!memory || !vas || !pas)
		return 1;
	callbacks->get_page = get_page;
	callbacks->read_caps = read_caps;
	for (int round = atoi(argv[5]); round > 0; round--) {
		uint64_t start_ns = now_ns();

		for (uint64_t at = 0; at < vas_bytes / 8; at++) {
			addrxlat_step_t step = {.ctx = context, .meth = &method};

			/* The bits above the range's 48 are for its caller to look at, as for the walks it is compared with. */
			step.base.addr = vas[at] & UINT64_C(0xffffffffffff);
			pas[at] = addrxlat_walk(&step)
				? UINT64_MAX
				: step.base.addr;
		}
		fprintf(stderr, "%llu\n", (unsigned long long)(now_ns() - start_ns));
	}
	return fwrite(pas, 1, vas_bytes, stdout) != vas_bytes;
}
