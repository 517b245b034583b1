/*
 * A line on the console: a PL011 where QEMU's virt machine has its first (hw/arm/virt.c, VIRT_UART), if what
 * lies there says that it is one. Elsewhere there is silence. Nothing is touched until there is
 * something to say.
 */
#include "machine.h"

#define UART_PA UINT64_C(0x09000000)

/* Arm PrimeCell UART (PL011) TRM, DDI 0183, chapter 3. */
#define DR 0x000
#define FR 0x018
#define FR_BUSY (1u << 3)
#define FR_TXFF (1u << 5)
#define CR 0x030
#define CR_UARTEN (1u << 0)
#define CR_TXE (1u << 8)
#define PERIPH_ID 0xfe0

/* Ends what would otherwise wait for ever for a UART that is stuck; bytes take microseconds. */
#define PATIENCE 1000000u

enum { UNKNOWN, PRESENT, ABSENT };

static unsigned int console;
static uint32_t control;

static void write_register(unsigned int offset, uint32_t value)
{
	*(volatile uint32_t *)(UART_PA + offset) = value;
}

static uint32_t read_register(unsigned int offset)
{
	return *(volatile uint32_t *)(UART_PA + offset);
}

/* UARTPeriphID0..3 and UARTPCellID0..3, the revision (7:4 of ID2) left out. */
static bool is_pl011(void)
{
	static const uint8_t wanted[8] = { 0x11, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };

	for (unsigned int i = 0; i < 8; i++) {
		uint32_t value;

		if (!probe_read(UART_PA + PERIPH_ID + 4 * i, &value))
			return false;
		if ((value & (i == 2 ? 0x0f : 0xff)) != wanted[i])
			return false;
	}
	return true;
}

static bool is_open(void)
{
	if (console == UNKNOWN) {
		console = is_pl011() ? PRESENT : ABSENT;
		if (console == PRESENT) {
			control = read_register(CR);
			write_register(CR, control | CR_UARTEN | CR_TXE);
		}
	}
	return console == PRESENT;
}

static void wait_while(uint32_t flag)
{
	for (unsigned int i = 0; i < PATIENCE && (read_register(FR) & flag); i++)
		;
}

void say(const char *text)
{
	if (!is_open())
		return;
	for (; *text; text++) {
		wait_while(FR_TXFF);
		write_register(DR, (uint8_t)*text);
	}
}

void say_number(uint64_t number)
{
	char digits[21];
	unsigned int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	say(&digits[at]);
}

void say_hex(uint64_t number)
{
	char digits[17];
	unsigned int at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		unsigned int digit = number & 15;

		digits[--at] = (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
		number >>= 4;
	} while (number);
	say("0x");
	say(&digits[at]);
}

/* The device is left as it was found. */
void say_no_more(void)
{
	if (console == PRESENT) {
		wait_while(FR_BUSY);
		write_register(CR, control);
	}
	console = UNKNOWN;
}
