/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled BPF program that is part of the executable: one program to deploy. The Makefile names it as BPF_OBJECT
 * (rules.mk) and links embedded.o. Each of these ends the process when it fails, saying what failed of ``whose``.
 */
#pragma once

#include <stddef.h>

#include <bpf/libbpf.h>

/* The program, opened and not yet loaded: its maps can be sized. */
struct bpf_object *embedded_open(const char *whose);

/* Puts the settings in place as its constants (its only internal map of this size) and loads it. */
void embedded_load(struct bpf_object *object, const char *whose, const void *settings, size_t size);
