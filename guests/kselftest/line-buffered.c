/*
 * Linked into each test: its stdout is written line by line, also into a pipe. Without, what a test that dies
 * had said is lost, and each child that it forked says it again.
 */
#include <stdio.h>

__attribute__((constructor)) static void write_lines(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}
