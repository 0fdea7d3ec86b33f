/* SPDX-License-Identifier: Apache-2.0 */
/* The control line of a server: commands on standard input, one line of answer to each on standard output. */
#pragma once

/* Says what failed, with errno's text when that is not 0, on standard error and ends the process with status 1. */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* Blocks INT, TERM and HUP and returns a descriptor that tells of them; call before any thread is started. */
int control_signals(void);

/* Prints the line "ready" with what is to be said after it: the role is being served from here on. */
void __attribute__((format(printf, 1, 2))) control_ready(const char *format, ...);

/*
 * Answers "stats ID" (ID: up to 20 digits) with "stats ID " and what stats(server) prints, a JSON object without a line
 * end; anything else with "error unknown command". Returns on "quit", on one of the signals, at the end of standard
 * input, and on a line that is too long.
 */
void control_loop(int signals, void (*stats)(void *server), void *server);
