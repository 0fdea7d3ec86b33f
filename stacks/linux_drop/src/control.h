/* SPDX-License-Identifier: Apache-2.0 */
/* What both programs share: the control lines on standard input, and how errors are said. */
#ifndef CONTROL_H
#define CONTROL_H

/* Blocks INT, TERM and HUP and returns a descriptor that tells of them; call before any thread is started. */
int control_signals(void);

/*
 * Prints "ready" and answers every line "stats ID" (ID: up to 18 digits) with stats(ID), which prints one line. Returns
 * on one of the signals and at the end of standard input; an unknown line is answered with "error ...".
 */
void control_serve(int signals, void (*stats)(unsigned long id));

/* Prints the failed call and errno's text to standard error and exits with status 1. */
void __attribute__((noreturn)) die(const char *what);

/* Prints what is wrong to standard error and exits with status 2. */
void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...);

/* A decimal number from low to high, refused otherwise; what names it. */
unsigned long number(const char *what, const char *text, unsigned long low, unsigned long high);

#endif
