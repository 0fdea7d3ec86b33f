/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: answers lines on stdin with one JSON line each, until a signal or the end of input. */
#pragma once

#include "worker.h"

struct server {
	const struct options *options;
	const struct program *programs;
	struct worker *workers;
};

/* Blocks the signals that control_loop() handles; call before any thread is started. */
int control_signals(void);

/* "stats ID" is answered with "stats ID {...}" (ID: up to 20 digits); returns on SIGINT, SIGTERM, end of input. */
void control_loop(struct server *s, int signals);
