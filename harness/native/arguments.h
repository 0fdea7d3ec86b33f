/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command line, checked and bounded before anything is opened. Each of these that cannot return refuses. */
#pragma once

/* Defined by the program: printed after what was refused. */
extern const char usage[];

/* Says what is wrong and the usage on standard error and ends the process with status 2. */
void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...);

/* A decimal number from low to high; ``what`` names it in a refusal, as "--batch" does. */
unsigned int number(const char *what, const char *text, unsigned long low, unsigned long high);

/* Index of the word among ``count`` names. */
unsigned int choice(const char *what, const char *text, const char *const *names, unsigned int count);

/* Appends the numbers N[,N...] of a list (cut up) to ``numbers``, which holds ``used`` of ``most``; returns the count. */
unsigned int number_list(const char *what, char *list, int *numbers, unsigned int used, unsigned int most,
			 unsigned long high);

/* As number_list, of CPU ids. */
unsigned int core_list(const char *what, char *list, int *cores, unsigned int most);
