/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "arguments.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void refuse(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n%s", usage);
	exit(2);
}

unsigned int number(const char *what, const char *text, unsigned long low, unsigned long high)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < low || value > high)
		refuse("%s %s: expected a number from %lu to %lu", what, text, low, high);
	return (unsigned int)value;
}

unsigned int choice(const char *what, const char *text, const char *const *names, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (!strcmp(text, names[i]))
			return i;
	refuse("%s %s: not one of its values", what, text);
}

unsigned int number_list(const char *what, char *list, int *numbers, unsigned int used, unsigned int most,
			 unsigned long high)
{
	char *rest = list;

	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		if (used == most)
			refuse("%s: more than %u", what, most);
		numbers[used++] = (int)number(what, word, 0, high);
	}
	return used;
}

unsigned int core_list(const char *what, char *list, int *cores, unsigned int most)
{
	return number_list(what, list, cores, 0, most, CPU_SETSIZE - 1);
}
