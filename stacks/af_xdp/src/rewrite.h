/* SPDX-License-Identifier: Apache-2.0 */
/* What a role makes of a test frame. */
#pragma once

#include <stdbool.h>

#include "frame.h"
#include "options.h"

/* Rewrites the frame in place; false when the role refuses it (forward: its time to live is used up). */
bool rewrite(enum role role, const struct port_options *port, const struct headers *h);
