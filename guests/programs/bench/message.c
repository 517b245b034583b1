/* What processes say to each other: through pipes, by signals, over TCP on the loopback interface. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { TRIPS = 32, SIGNALS = 256, STREAM = 64 << 10, STREAMS = 4 };

static int there[2], back[2], child, near = -1, far = -1;
static size_t arrived;
static volatile sig_atomic_t caught;
static char *sent, *received;

static const char *setup_pipe(void)
{
	char byte;

	if (pipe(there) || pipe(back))
		return because("pipe");
	child = fork();
	if (child < 0)
		return because("fork");
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	return NULL;
}

static const char *before(void)
{
	arrived = 0;
	caught = 0;
	return NULL;
}

static void go_around(size_t times)
{
	char byte = 1;

	for (size_t i = 0; i < times; i++)
		arrived += write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
}

static const char *check_trips(void)
{
	return arrived == TRIPS ? NULL : "a byte did not come back";
}

static void end_pipe(void)
{
	close(there[1]);
	waitpid(child, NULL, 0);
	close(there[0]);
	close(back[0]);
	close(back[1]);
}

static void on_signal(int number)
{
	(void)number;
	caught++;
}

static const char *setup_signal(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	return sigaction(SIGUSR1, &action, NULL) ? because("sigaction") : NULL;
}

static void send_signals(size_t times)
{
	pid_t self = getpid();

	for (size_t i = 0; i < times; i++)
		kill(self, SIGUSR1);
}

static const char *check_signals(void)
{
	return caught == SIGNALS ? NULL : "a signal was not caught";
}

static const char *setup_tcp(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	sent = malloc(STREAM);
	received = malloc(STREAM);
	if (listening < 0 || near < 0 || !sent || !received)
		return because("sockets");
	if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 1) ||
	    getsockname(listening, (struct sockaddr *)&address, &size) ||
	    connect(near, (struct sockaddr *)&address, size))
		return because("TCP on the loopback interface");
	far = accept(listening, NULL, NULL);
	close(listening);
	for (size_t i = 0; i < STREAM; i++)
		sent[i] = i * 7;
	return far < 0 ? because("accept") : NULL;
}

static const char *before_stream(void)
{
	memset(received, 0, STREAM);
	return before();
}

static void stream(size_t times)
{
	for (size_t i = 0; i < times; i++)
		for (size_t at = 0; at < STREAM;) {
			size_t left = STREAM - at;
			ssize_t gone = send(near, sent + at, left < STREAM / 4 ? left : STREAM / 4, 0);

			if (gone <= 0 || recv(far, received + at, gone, MSG_WAITALL) != gone)
				return;
			at += gone;
			arrived += gone;
		}
}

static const char *check_stream(void)
{
	if (arrived != STREAMS * STREAM)
		return because("the stream broke off");
	return memcmp(sent, received, STREAM) ? "the stream arrived changed" : NULL;
}

static void end_tcp(void)
{
	close(near);
	close(far);
	free(sent);
	free(received);
}

const struct bench message_benches[] = {
	{ .name = "pipe", .unit = "round trip", .times = TRIPS,
	  .about = "one byte through a pipe to another process, and back through another",
	  .setup = setup_pipe, .before = before, .operate = go_around, .check = check_trips,
	  .teardown = end_pipe },
	{ .name = "signal", .unit = "signal", .times = SIGNALS,
	  .about = "a signal that a process sends itself, caught",
	  .setup = setup_signal, .before = before, .operate = send_signals, .check = check_signals },
	{ .name = "tcp", .unit = "64 KiB", .times = STREAMS,
	  .about = "sent and received over TCP on the loopback interface",
	  .setup = setup_tcp, .before = before_stream, .operate = stream, .check = check_stream,
	  .teardown = end_tcp },
	{ 0 },
};
