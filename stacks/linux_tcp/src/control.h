/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: answers lines on stdin with one JSON line each, ends the process on a signal or end of input. */
#pragma once

#include "worker.h"

struct server {
	struct worker *workers;
	unsigned int nworkers;
	struct listener *listeners;
	unsigned int nlisteners;
};

/* Blocks the signals that control_loop() handles; call before any thread is started. */
int control_signals(void);

/* "stats ID" is answered with "stats ID {...}" (ID: up to 20 digits); returns on "quit", SIGINT, SIGTERM, end of input. */
void control_loop(struct server *s, int signals);
