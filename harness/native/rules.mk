# SPDX-License-Identifier: Apache-2.0
# What the Makefiles of stacks' programs share. Include it as
#	NATIVE := $(firstword $(wildcard native ../../../harness/native))
#	include $(NATIVE)/rules.mk
# A build on a DUT has this folder beside the stack's sources (harness.stacks.servers.build), a checkout has it above
# them. SERVER are the objects to link, SERVER_HEADERS what they and their users depend on. A BPF program that is to be
# part of the executable: name it as BPF_OBJECT, make embedded.o depend on it, link that.
CLANG ?= clang
CFLAGS ?= -O2 -g
override CFLAGS += -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -pthread -I$(NATIVE)
override CFLAGS += $(if $(BPF_OBJECT),-DBPF_OBJECT='"$(BPF_OBJECT)"')
MULTIARCH = $(shell $(CLANG) -print-multiarch 2>/dev/null)
BPF_CFLAGS = -O2 -g -Wall -Wextra -Werror -target bpf -I/usr/include/$(MULTIARCH)
SERVER := address.o arguments.o control.o threads.o
SERVER_HEADERS := $(wildcard $(NATIVE)/*.h)
vpath %.c $(NATIVE)

%.bpf.o: %.bpf.c
	$(CLANG) $(BPF_CFLAGS) -c -o $@ $<
