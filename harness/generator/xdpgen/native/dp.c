/* SPDX-License-Identifier: Apache-2.0 */
/* xdpgen-dp OBJECT CELLS PORT,... CORE,...: the process behind NativeDataplane.
 *
 * Its standard input is a SOCK_SEQPACKET socket with requests (protocol.h). It ends when that socket is closed, which
 * also happens when its parent dies; the kernel then detaches the receiving program and frees all maps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dp.h"

static struct dataplane dataplane;

/* Keep the text of an error for the reply; returns code. */
int fail(struct dataplane *dp, int code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(dp->error, sizeof(dp->error), format, arguments);
	va_end(arguments);
	return code;
}

__u64 now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NS + time.tv_nsec;
}

/* Between two looks at a sender's progress. */
void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

/* One message, with a file descriptor if fd is not negative. */
static void send_reply(struct dataplane *dp, int status, const void *data, size_t length, int fd)
{
	struct reply reply = {.status = status, .length = length};
	struct iovec parts[2] = {{&reply, sizeof(reply)}, {(void *)data, length}};
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);

		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
	}
	if (sendmsg(dp->socket, &message, MSG_NOSIGNAL) < 0 && errno != EPIPE)
		fprintf(stderr, "xdpgen-dp: reply: %s\n", strerror(errno));
}

static void send_outcome(struct dataplane *dp, int err, const void *data, size_t length)
{
	if (err)
		send_reply(dp, err, dp->error, strlen(dp->error), -1);
	else
		send_reply(dp, 0, data, length, -1);
}

/* Returns the message's size, 0 at the end, or -errno; *fd is a received descriptor or -1. */
static ssize_t receive_request(struct dataplane *dp, void *buffer, size_t size, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {buffer, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof(control)};
	ssize_t length = recvmsg(dp->socket, &message, MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (length < 0)
		return -errno;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(header), sizeof(int));
	return length;
}

static int capture_set(struct dataplane *dp, const struct request *request)
{
	struct rx_config *rx = &dp->shared->rx;

	if (request->arg >= dp->ports_used || request->value > 2)
		return fail(dp, -EINVAL, "capture: no such port or mode");
	rx->capture[request->arg] = 0;
	rx->capture_left[request->arg] = request->limit > 0x7fffffff ? 0x7fffffff : request->limit;
	rx->capture[request->arg] = request->value;
	return 0;
}

static void reply_captured(struct dataplane *dp)
{
	static __u8 frames[MESSAGE_MAX] __attribute__((aligned(8)));

	send_reply(dp, 0, frames, captures_take(dp, frames, sizeof(frames)), -1);
}

static void reply_report(struct dataplane *dp, const struct request *request)
{
	static struct {
		struct report_reply counts;
		struct pause log[PAUSE_LOG];
	} report;

	if (request->arg >= dp->cores_used) {
		send_outcome(dp, fail(dp, -EINVAL, "no core %u", request->arg), NULL, 0);
		return;
	}
	report_read(dp, request->arg, &report.counts);
	memcpy(report.log, dp->shared->cores[request->arg].pause_log, sizeof(report.log));
	send_reply(dp, 0, &report, sizeof(report), -1);
}

static void reset_reports(struct dataplane *dp)
{
	for (__u32 core = 0; core < dp->cores_used; core++)
		dp->shared->cores[core].report_epoch++;
	streams_renew_marks(dp);
}

static void reply_hello(struct dataplane *dp)
{
	struct hello_reply hello = {.version = PROTOCOL_VERSION, .ports = dp->ports_used, .cores = dp->cores_used,
				    .cpus = dp->cpus, .nonce = dp->shared->rx.nonce, .cells = dp->cell_count};

	send_reply(dp, 0, &hello, sizeof(hello), dp->histograms_fd);
}

/* A stream that could not be sent must not look like one that ended. */
static int check_streams(struct dataplane *dp)
{
	if (dp->failed_stream < 0)
		return 0;
	return fail(dp, -EIO, "the sending program cannot build the frames of stream %lld", dp->failed_stream);
}

/* Requests that read something. Returns false if the operation is none of these. */
static bool handle_query(struct dataplane *dp, const struct request *request, const void *body, size_t size)
{
	struct latency_state states[MAX_CORES];
	struct group_reply groups[MAX_PORTS];
	struct port_reply port;
	__u32 active;

	switch (request->op) {
	case OP_HELLO:
		reply_hello(dp);
		return true;
	case OP_ACTIVE:
		active = streams_active(dp, body, size / sizeof(__u32));
		send_outcome(dp, check_streams(dp), &active, sizeof(active));
		return true;
	case OP_PORT:
		if (request->arg >= dp->ports_used)
			send_outcome(dp, fail(dp, -EINVAL, "no port %u", request->arg), NULL, 0);
		else
			send_outcome(dp, port_read(dp, request->arg, &port), &port, sizeof(port));
		return true;
	case OP_GROUP:
		send_outcome(dp, group_read(dp, request->arg, groups), groups, dp->ports_used * sizeof(*groups));
		return true;
	case OP_LATENCY:
		send_outcome(dp, latency_read(dp, request->arg, states), states, dp->cores_used * sizeof(*states));
		return true;
	case OP_REPORT:
		reply_report(dp, request);
		return true;
	case OP_CAPTURED:
		reply_captured(dp);
		return true;
	default:
		return false;
	}
}

/* Requests that change something. */
static int handle_change(struct dataplane *dp, const struct request *request, const void *body, size_t size, int fd)
{
	switch (request->op) {
	case OP_START:
		return streams_start(dp, body, size / sizeof(struct start_record), fd);
	case OP_RATE:
		return streams_rate(dp, body, size / sizeof(struct rate_record));
	case OP_STOP:
		return streams_stop(dp, body, size / sizeof(__u32));
	case OP_GROUP_OPEN:
		return group_open(dp, request->arg, request->value);
	case OP_GROUP_CLOSE:
		return group_close(dp, request->arg);
	case OP_RESET_REPORTS:
		reset_reports(dp);
		return 0;
	case OP_CAPTURE:
		return capture_set(dp, request);
	default:
		return fail(dp, -ENOSYS, "unknown operation %u", request->op);
	}
}

/* Returns false when the parent is gone or asked to quit. */
static bool handle(struct dataplane *dp)
{
	static __u8 buffer[MESSAGE_MAX] __attribute__((aligned(8)));
	const struct request *request = (const void *)buffer;
	const __u8 *body = buffer + sizeof(*request);
	int fd;
	ssize_t length = receive_request(dp, buffer, sizeof(buffer), &fd);

	if (length == -EINTR)
		return true;
	if (length < (ssize_t)sizeof(*request) || request->op == OP_QUIT) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (!handle_query(dp, request, body, length - sizeof(*request)))
		send_outcome(dp, handle_change(dp, request, body, length - sizeof(*request), fd), NULL, 0);
	if (fd >= 0)
		close(fd);
	return true;
}

static void serve(struct dataplane *dp)
{
	for (;;) {
		struct pollfd input = {.fd = dp->socket, .events = POLLIN};
		int ready = poll(&input, 1, streams_next_event_ms(dp));

		if (ready < 0 && errno != EINTR)
			return;
		if (ready > 0 && !handle(dp))
			return;
		if (ready == 0)
			streams_reap(dp);
	}
}

static int keep_libbpf_text(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

/* Fill ports and cores from the command line. */
static int parse(struct dataplane *dp, char **argv)
{
	char *rest, *word;

	dp->cell_count = strtoul(argv[2], NULL, 10);
	for (word = strtok_r(argv[3], ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		if (dp->ports_used == MAX_PORTS)
			return fail(dp, -E2BIG, "more than %d ports", MAX_PORTS);
		snprintf(dp->ports[dp->ports_used++].name, sizeof(dp->ports[0].name), "%s", word);
	}
	for (word = strtok_r(argv[4], ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		unsigned long cpu = strtoul(word, NULL, 10);

		if (dp->cores_used == MAX_CORES || cpu >= MAX_CPUS)
			return fail(dp, -E2BIG, "more than %d cores, or a core above %d", MAX_CORES, MAX_CPUS - 1);
		dp->senders[dp->cores_used++].cpu = cpu;
	}
	return dp->ports_used && dp->cores_used && dp->cell_count ? 0 : fail(dp, -EINVAL, "no ports or no cores");
}

/* With autogroups (one a session) niceness counts only inside one, so this session's own gets the same. A kernel
 * without autogroups has no such file, and needs none.
 */
static int raise_session(struct dataplane *dp)
{
	FILE *file = fopen("/proc/self/autogroup", "w");
	int err = 0;

	if (!file)
		return errno == ENOENT ? 0 : fail(dp, -errno, "/proc/self/autogroup: %s", strerror(errno));
	if (fputs("-20", file) < 0 || fflush(file))
		err = fail(dp, -errno, "/proc/self/autogroup: %s", strerror(errno));
	fclose(file);
	return err;
}

/* This thread acts rarely and briefly, but a command must not wait for its turn behind a sender. */
static int raise_control(struct dataplane *dp)
{
	int err = raise_session(dp);

	if (!err && setpriority(PRIO_PROCESS, gettid(), -20))
		err = fail(dp, -errno, "cannot raise the priority: %s", strerror(errno));
	return err;
}

static int set_up(struct dataplane *dp, int argc, char **argv)
{
	int err;

	if (argc != 5)
		return fail(dp, -EINVAL, "usage: xdpgen-dp OBJECT CELLS PORT,... CORE,...");
	dp->cpus = libbpf_num_possible_cpus();
	err = parse(dp, argv);
	if (!err)
		err = raise_control(dp);
	if (!err)
		err = load(dp, argv[1]);
	if (!err)
		err = captures_open(dp);
	for (__u32 core = 0; core < dp->cores_used && !err; core++)
		err = sender_create(dp, core);
	return err;
}

int main(int argc, char **argv)
{
	struct dataplane *dp = &dataplane;
	int err;

	signal(SIGINT, SIG_IGN); /* Ctrl-C is for the parent, whose end ends this process */
	libbpf_set_print(keep_libbpf_text);
	dp->socket = STDIN_FILENO;
	dp->failed_stream = -1;
	err = set_up(dp, argc, argv);
	send_outcome(dp, err, NULL, 0);
	if (!err)
		serve(dp);
	for (__u32 core = 0; core < dp->cores_used; core++)
		if (dp->senders[core].created) {
			sender_park(dp, core);
			sender_destroy(&dp->senders[core]);
		}
	captures_close(dp);
	unload(dp);
	return err ? 1 : 0;
}
