/* Which page size to start, by the rules of a kernel that chooses at boot (the series of 2024-10-14). */
#include "selector.h"

#define OPTION "arm64.pagesize="

/* arch/arm64/kernel/pi/idreg-override.c, __parse_cmdline(): a word ends after that many bytes, and what
   is left of it is taken for the next. */
#define WORD_MAX 255u

/* lib/ctype.c of the kernel, whose isspace() takes a no-break space, too. */
static bool is_space(char given)
{
	unsigned char c = (unsigned char)given;

	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0;
}

static bool begins_with(const char *text, uint32_t bytes, const char *with, uint32_t with_bytes)
{
	if (bytes < with_bytes)
		return false;
	for (uint32_t i = 0; i < with_bytes; i++)
		if (text[i] != with[i])
			return false;
	return true;
}

/*
 * ID_AA64MMFR0_EL1 (Arm ARM DDI 0487, D24.2): TGran4 31:28 and TGran64 27:24 are signed, 0 is "supported"
 * and 0b1111 "not supported"; TGran16 23:20 is unsigned, 0 is "not supported". Values that are reserved
 * count as in the kernel (ID_AA64MMFR0_EL1_TGRAN*_SUPPORTED_MIN and _MAX).
 */
unsigned int sizes_of_cpu(uint64_t id_aa64mmfr0)
{
	unsigned int tgran4 = id_aa64mmfr0 >> 28 & 15;
	unsigned int tgran64 = id_aa64mmfr0 >> 24 & 15;
	unsigned int tgran16 = id_aa64mmfr0 >> 20 & 15;

	return (tgran4 <= 7 ? 1u << 12 : 0) | (tgran16 >= 1 ? 1u << 14 : 0) | (tgran64 <= 7 ? 1u << 16 : 0);
}

static unsigned int shift_of(const char *value, uint32_t bytes)
{
	if (bytes == 2 && value[0] == '4' && value[1] == 'k')
		return 12;
	if (bytes == 3 && value[0] == '1' && value[1] == '6' && value[2] == 'k')
		return 14;
	if (bytes == 3 && value[0] == '6' && value[1] == '4' && value[2] == 'k')
		return 16;
	return 0;
}

/* The last value that is one counts; a word `--` ends what is meant for the kernel. */
unsigned int asked_for(const char *bootargs, uint32_t bytes)
{
	unsigned int asked = ASKED_NOTHING;
	uint32_t at = 0;

	for (;;) {
		uint32_t start, length, option = sizeof(OPTION) - 1;

		while (at < bytes && is_space(bootargs[at]))
			at++;
		if (at == bytes)
			return asked;
		if (bytes - at > 2 && bootargs[at] == '-' && bootargs[at + 1] == '-' && is_space(bootargs[at + 2]))
			return asked;
		start = at;
		while (at < bytes && at - start < WORD_MAX && !is_space(bootargs[at]))
			at++;
		length = at - start;
		if (begins_with(bootargs + start, length, OPTION, option)) {
			unsigned int shift = shift_of(bootargs + start + option, length - option);

			if (shift)
				asked = shift;
			else if (asked == ASKED_NOTHING)
				asked = ASKED_NONSENSE;
		}
	}
}

unsigned int choose(unsigned int asked, unsigned int of_cpu, unsigned int carried)
{
	unsigned int can = of_cpu & carried & SIZES_ALL;

	if (asked >= 12 && asked <= 16 && can >> asked & 1)
		return asked;
	for (unsigned int shift = 16; shift >= 12; shift -= 2)
		if (can >> shift & 1)
			return shift;
	return 0;
}
