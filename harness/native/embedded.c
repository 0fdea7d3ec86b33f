/* SPDX-License-Identifier: Apache-2.0 */
#include "embedded.h"

#include <errno.h>

#include "control.h"

__asm__(".section .rodata\n"
	".balign 16\n"
	"bpf_object_start:\n"
	".incbin \"" BPF_OBJECT "\"\n"
	"bpf_object_end:\n"
	".previous\n");
extern const char bpf_object_start[], bpf_object_end[];

struct bpf_object *embedded_open(const char *whose)
{
	struct bpf_object *object;

	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	object = bpf_object__open_mem(bpf_object_start, (size_t)(bpf_object_end - bpf_object_start), NULL);
	if (!object)
		die("%s: open the BPF object", whose);
	return object;
}

void embedded_load(struct bpf_object *object, const char *whose, const void *settings, size_t size)
{
	struct bpf_map *constants;
	size_t has = 0;

	bpf_object__for_each_map(constants, object)
		if (bpf_map__is_internal(constants) && bpf_map__initial_value(constants, &has) && has == size)
			break;
	errno = 0;
	if (!constants)
		die("%s: the BPF object has no settings of %zu bytes", whose, size);
	errno = -bpf_map__set_initial_value(constants, settings, size);
	if (errno)
		die("%s: settings of the BPF program", whose);
	errno = -bpf_object__load(object);
	if (errno)
		die("%s: load the BPF program", whose);
}
