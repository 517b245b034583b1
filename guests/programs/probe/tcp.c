/* A peer that echoes: bytes go out and come back as they were, more of them than any socket buffer holds. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Needs sys/socket.h before it. */
#include <linux/vm_sockets.h>

#include "probe.h"
#include "tap.h"

enum { PIECE = 1 << 16, STALL_MS = 20000, CONNECT_S = 20 };

/* Byte number `at` of the stream: a period that no page, segment or buffer size divides. */
static uint8_t expected(size_t at)
{
	return (uint8_t)(at % 251 ^ at >> 16);
}

/* To the host (`vsock`), or whoever of it connects here first (`vsock-listen`). */
static int connected_by_vsock(bool listening, const char *port)
{
	struct sockaddr_vm peer = { .svm_family = AF_VSOCK, .svm_port = (unsigned int)atoi(port) };
	struct timeval patience = { .tv_sec = CONNECT_S };
	int line = socket(AF_VSOCK, SOCK_STREAM, 0);

	peer.svm_cid = listening ? VMADDR_CID_ANY : VMADDR_CID_HOST;
	if (line < 0)
		return -1;
	setsockopt(line, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (!listening)
		return connect(line, (struct sockaddr *)&peer, sizeof(peer)) < 0 ? -1 : line;
	if (bind(line, (struct sockaddr *)&peer, sizeof(peer)) < 0 || listen(line, 1) < 0)
		return -1;
	return accept(line, NULL, NULL);
}

static int connected(const char *address, const char *port)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int line;

	if (!strncmp(address, "vsock", 5))
		return connected_by_vsock(!strcmp(address, "vsock-listen"), port);
	if (inet_pton(AF_INET, address, &peer.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	line = socket(AF_INET, SOCK_STREAM, 0);
	if (line < 0 || connect(line, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		return -1;
	return line;
}

int probe_tcp(int argc, char **argv)
{
	size_t total = strtoull(argv[2], NULL, 10), sent = 0, got = 0, wrong = 0;
	static uint8_t piece[PIECE];
	struct pollfd line = { .events = POLLIN | POLLOUT };

	(void)argc;
	line.fd = connected(argv[0], argv[1]);
	if (line.fd < 0)
		tap_stop("connection to %s port %s: %s", argv[0], argv[1], strerror(errno));
	while (got < total) {
		if (poll(&line, 1, STALL_MS) <= 0)
			break;
		if (line.revents & POLLIN) {
			ssize_t n = read(line.fd, piece, sizeof(piece));

			if (n <= 0)
				break;
			for (ssize_t i = 0; i < n; i++)
				wrong += piece[i] != expected(got + (size_t)i);
			got += (size_t)n;
		}
		if (sent < total && (line.revents & POLLOUT)) {
			size_t want = total - sent < sizeof(piece) ? total - sent : sizeof(piece);
			ssize_t n;

			for (size_t i = 0; i < want; i++)
				piece[i] = expected(sent + i);
			n = send(line.fd, piece, want, MSG_DONTWAIT);
			if (n < 0 && errno != EAGAIN)
				break;
			sent += n > 0 ? (size_t)n : 0;
		}
		line.events = (short)(sent < total ? POLLIN | POLLOUT : POLLIN);
	}
	close(line.fd);
	tap_equal(total, sent, "bytes sent");
	tap_equal(total, got, "bytes that came back");
	tap_equal(0, wrong, "bytes that came back changed");
	return tap_done();
}
