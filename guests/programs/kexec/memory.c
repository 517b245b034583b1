/* What this kernel says of its memory, and the ELF header of a dump of it. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kexec.h"

enum { MAX_CPUS = 4096 };

int read_iomem(const char *path, const char *name, struct ranges *found, const char **problem)
{
	FILE *file = fopen(path, "re");
	char line[256];

	found->count = 0;
	if (!file) {
		*problem = path;
		return -1;
	}
	while (fgets(line, sizeof(line), file)) {
		unsigned long long start, last;
		char said[200];

		if (sscanf(line, " %llx-%llx : %199[^\n]", &start, &last, said) != 3 || strcmp(said, name))
			continue;
		if (last <= start || found->count == MAX_RANGES) {
			fclose(file);
			errno = last <= start ? EPERM : E2BIG; /* without CAP_SYS_ADMIN it says zeros */
			*problem = path;
			return -1;
		}
		found->at[found->count++] = (struct range){ start, last + 1 };
	}
	fclose(file);
	return 0;
}

static bool read_two(const char *path, const char *format, unsigned long long *first,
		     unsigned long long *second)
{
	FILE *file = fopen(path, "re");
	bool good = file && fscanf(file, format, first, second) == (second ? 2 : 1);

	if (file)
		fclose(file);
	return good;
}

static Elf64_Phdr note(uint64_t pa, uint64_t size)
{
	return (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = pa, .p_paddr = pa, .p_filesz = size,
			     .p_memsz = size };
}

/* Appends what of a range is not the crash kernel's; where it is mapped is for VMCOREINFO to say. */
static void add_memory(Elf64_Phdr *headers, size_t *count, struct range ram, const struct range *crash)
{
	struct range parts[2] = { ram, { 0, 0 } };

	if (crash->start < ram.end && crash->end > ram.start) {
		parts[0].end = crash->start;
		parts[1] = (struct range){ crash->end, ram.end };
	}
	for (int i = 0; i < 2; i++)
		if (parts[i].end > parts[i].start)
			headers[(*count)++] = (Elf64_Phdr){
				.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
				.p_offset = parts[i].start, .p_paddr = parts[i].start,
				.p_filesz = parts[i].end - parts[i].start,
				.p_memsz = parts[i].end - parts[i].start,
			};
}

/*
 * As kernel/crash_core.c, crash_prepare_elf64_headers(): a note of each CPU, VMCOREINFO, and all RAM but the
 * crash kernel's own. The capture kernel reads notes and memory at the physical addresses in p_offset.
 */
void *elf_core_header(const char *sys, const struct ranges *ram, const struct range *crash, size_t *size,
		      const char **problem)
{
	size_t room = sizeof(Elf64_Ehdr) + (MAX_CPUS + 1 + 2 * MAX_RANGES) * sizeof(Elf64_Phdr), count = 0;
	Elf64_Ehdr *header = calloc(1, room);
	Elf64_Phdr *headers = (Elf64_Phdr *)(header + 1);
	unsigned long long pa, note_size;
	char path[256];

	if (!header) {
		*problem = "memory";
		return NULL;
	}
	for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
		snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%d/crash_notes", sys, cpu);
		if (!read_two(path, "%llx", &pa, NULL))
			break;
		snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%d/crash_notes_size", sys, cpu);
		if (!read_two(path, "%llu", &note_size, NULL))
			break;
		headers[count++] = note(pa, note_size);
	}
	snprintf(path, sizeof(path), "%s/kernel/vmcoreinfo", sys);
	if (!count || !read_two(path, "%llx %llx", &pa, &note_size)) {
		*problem = "crash_notes and vmcoreinfo of sysfs";
		errno = ENOSYS;
		free(header);
		return NULL;
	}
	headers[count++] = note(pa, note_size);
	for (size_t i = 0; i < ram->count; i++)
		add_memory(headers, &count, ram->at[i], crash);
	memcpy(header->e_ident, ELFMAG, SELFMAG);
	header->e_ident[EI_CLASS] = ELFCLASS64;
	header->e_ident[EI_DATA] = ELFDATA2LSB;
	header->e_ident[EI_VERSION] = EV_CURRENT;
	header->e_type = ET_CORE;
	header->e_machine = EM_AARCH64;
	header->e_version = EV_CURRENT;
	header->e_phoff = sizeof(*header);
	header->e_ehsize = sizeof(*header);
	header->e_phentsize = sizeof(*headers);
	header->e_phnum = count;
	*size = sizeof(*header) + count * sizeof(*headers);
	return header;
}
