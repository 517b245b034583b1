/* Gives next_fdt() a tree cut off anywhere and with any byte changed, at the end of an allocation. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kexec.h"

static void try(const unsigned char *tree, size_t size)
{
	static const uint8_t random[RANDOM_BYTES];
	struct boot boot = { .command_line = "x", .random = random };
	unsigned char *copy = malloc(size ? size : 1);
	const char *problem;
	size_t made;
	void *fdt;

	memcpy(copy, tree, size);
	fdt = next_fdt(copy, size, &boot, &made, &problem);
	if (!fdt != !!problem)
		exit(1);
	free(fdt);
	free(copy);
}

int main(int argc, char **argv)
{
	static const unsigned char changes[] = { 0x01, 0x80, 0xff };
	unsigned char tree[4096];
	FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
	size_t size = file ? fread(tree, 1, sizeof(tree), file) : 0;

	if (!size)
		return 2;
	fclose(file);
	for (size_t cut = 0; cut <= size; cut++)
		try(tree, cut);
	for (size_t at = 0; at < size; at++) {
		for (size_t i = 0; i < sizeof(changes); i++) {
			tree[at] ^= changes[i];
			try(tree, size);
			tree[at] ^= changes[i];
		}
	}
	return 0;
}
