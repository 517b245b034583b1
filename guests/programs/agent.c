/*
 * The host's hand inside the micro guest: reads requests from a virtio port or console, one line each,
 * and answers on the same line.
 *
 *     NONCE BASE64                        run the shell script that BASE64 decodes to
 *     NONCE put PATHB64 MODE LENGTH       LENGTH raw bytes follow: store them (MODE is octal)
 *     NONCE get PATHB64                   answers "granule:NONCE:length LENGTH\n" and LENGTH raw bytes
 *     NONCE tty [ROWS COLUMNS]            a login shell on a terminal of its own, until it exits
 *     NONCE spare                         start a shell now for the next script, which then comes sooner
 *     NONCE fresh SEEDB64 SECONDS NANOS   a clone's beginning: new random numbers, the time of day
 *
 * Every answer ends with "\ngranule:NONCE STATUS\n". While a script runs, a byte 0x03 interrupts its
 * process group (SIGINT, a second later SIGKILL); otherwise the host sends nothing until the answer is
 * complete. The line is raw: what a command writes is what the host reads, byte for byte.
 *
 * QEMU drops what a virtconsole (hvc0) writes while the host is slow to read (flush_buf() in
 * hw/char/virtio-console.c says why); a virtserialport waits instead, and so is the better line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_LIMIT = 16 << 20,	 /* a request line; the host promises 4 MiB at most */
	SLURP_LIMIT = 64 << 20,	 /* a file of unknown length, such as those of /proc */
	INLINE_SCRIPT = 64 << 10, /* surely fits one argument: MAX_ARG_STRLEN is 32 pages */
	INTERRUPT_GRACE_MS = 1000,
	SPARE_SCRIPT = 4 << 10,	  /* what is written to a pipe as a whole or not at all: PIPE_BUF */
	SPARE_START_MS = 10000,
	NONCE_LIMIT = 64,
	SEED_LIMIT = 512,	 /* bytes of entropy; the kernel's pool holds 32 */
	CTRL_C = 3,
};

static int line_fd = -1;
static int child_fd;  /* signalfd of SIGCHLD */
static int random_fd; /* /dev/urandom, open before a clone needs it */

/*
 * In a run that is to repeat, requests come by a call that the host answers: it has a breakpoint on the
 * first instruction at TRAP_VA, puts its bytes at x0 (x1 bytes of room), their number in x0, and steps
 * over. The guest is then stopped while it is given anything, and always at the same instruction. Until
 * the host is there the guest waits: the instruction is a branch to itself.
 */
#define TRAP_VA 0x672610000ULL /* below 2^36, the smallest user half, and aligned to 64K */
static size_t (*trap)(void *bytes, size_t room);
static bool busy; /* a command runs: only an interrupt can come, by the line */

/* Bytes received and not yet consumed: received[start .. start + held). */
static char *received;
static size_t start, held, room;

static void die(const char *what)
{
	fprintf(stderr, "granule agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void send_all(const void *bytes, size_t length)
{
	const char *next = bytes;

	while (length > 0) {
		ssize_t sent = write(line_fd, next, length);

		if (sent < 0 && errno != EINTR)
			die("writing to the line");
		if (sent > 0) {
			next += sent;
			length -= sent;
		}
	}
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	send_all(text, length < (int)sizeof(text) ? length : (int)sizeof(text) - 1);
}

static void close_answer(const char *nonce, int status)
{
	say("\ngranule:%s %d\n", nonce, status);
}

/* Opened without becoming the controlling terminal: a Ctrl-C is a byte here, never a signal. */
static void open_line(const char *path)
{
	struct termios modes;

	line_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line_fd < 0)
		die(path);
	if (!isatty(line_fd))
		return;
	if (tcgetattr(line_fd, &modes))
		die("tcgetattr");
	cfmakeraw(&modes);
	modes.c_cc[VMIN] = 1;
	modes.c_cc[VTIME] = 0;
	if (tcsetattr(line_fd, TCSANOW, &modes))
		die("tcsetattr");
}

/* Appends whatever the line has to the bytes held; waits for at least one. */
static void receive(void)
{
	ssize_t got;

	if (held == 0)
		start = 0;
	if (start + held == room) {
		if (start > 0) {
			memmove(received, received + start, held);
			start = 0;
		} else {
			room = room ? 2 * room : 64 << 10;
			received = realloc(received, room);
			if (!received)
				die("memory for a request");
		}
	}
	if (trap && !busy) {
		/* Written to first: the host stores at the physical page that is mapped here. */
		memset(received + start + held, 0, room - start - held);
		held += trap(received + start + held, room - start - held);
		return;
	}
	do
		got = read(line_fd, received + start + held, room - start - held);
	while (got < 0 && errno == EINTR);
	if (got <= 0) {
		if (got == 0)
			errno = EPIPE;
		die("reading from the line");
	}
	held += got;
}

static void make_trap(void)
{
	static const uint32_t code[] = { 0x14000000 /* b . */, 0xd65f03c0 /* ret */ };
	void *page = mmap((void *)TRAP_VA, sizeof(code), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (page != (void *)TRAP_VA)
		die("the page for the trap");
	memcpy(page, code, sizeof(code));
	__builtin___clear_cache(page, (char *)page + sizeof(code));
	if (mprotect(page, sizeof(code), PROT_READ | PROT_EXEC))
		die("the page for the trap");
	trap = (size_t (*)(void *, size_t))page;
}

static void consume(size_t length)
{
	start += length;
	held -= length;
}

/*
 * The next line without its newline, NUL-terminated, valid until the next receive(). A 0x03 before
 * the line is an interrupt that came after its command had ended.
 */
static char *next_line(void)
{
	size_t searched = 0;
	char *end;

	for (;;) {
		while (held > 0 && received[start] == CTRL_C) {
			consume(1);
			searched = 0;
		}
		end = held > searched ? memchr(received + start + searched, '\n', held - searched) : NULL;
		if (end) {
			char *line = received + start;

			*end = '\0';
			consume(end + 1 - line);
			return line;
		}
		searched = held;
		if (held > LINE_LIMIT) {
			say("granule agent: a request line is longer than %d bytes\n", LINE_LIMIT);
			exit(1);
		}
		receive();
	}
}

static int base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes in place and NUL-terminates; returns the length, or -1 when it is not padded base64. */
static ssize_t base64_decode(char *text)
{
	size_t length = strlen(text), padding = 0, out = 0;
	uint32_t bits = 0;

	if (length % 4)
		return -1;
	while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
		padding++;
	for (size_t in = 0; in < length - padding; in++) {
		int digit = base64_digit(text[in]);

		if (digit < 0)
			return -1;
		bits = bits << 6 | digit;
		if (in % 4 != 0)
			text[out++] = bits >> (6 - 2 * (in % 4));
	}
	text[out] = '\0';
	return out;
}

/* A path argument; NULL when it is not base64, is empty or has a NUL inside. */
static char *decode_path(char *text)
{
	ssize_t length = text ? base64_decode(text) : -1;

	return length > 0 && strlen(text) == (size_t)length ? text : NULL;
}

static bool parse_number(const char *text, int base, long long limit, long long *value)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoll(text, &end, base);
	return !errno && *end == '\0' && *value <= limit;
}

static int status_of(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/* Neither our own blocked SIGCHLD nor what whoever started us ignored is the command's business. */
static void default_signals(void)
{
	const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU };
	sigset_t none;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: the script as an argument, or as a file where it is too long for one. */
__attribute__((noreturn)) static void exec_script(const char *script, size_t length)
{
	char path[64];
	int file;

	if (length <= INLINE_SCRIPT) {
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	} else {
		file = memfd_create("script", 0);
		if (file >= 0 && write(file, script, length) == (ssize_t)length) {
			snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
			execl("/bin/sh", "sh", path, (char *)NULL);
		}
	}
	dprintf(2, "granule agent: /bin/sh: %s\n", strerror(errno));
	_exit(127);
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* In the child: a process group of its own, no input, and the line for its output. */
static void become_command(void)
{
	int null;

	setpgid(0, 0);
	default_signals();
	null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	dup2(line_fd, 1);
	dup2(line_fd, 2);
	if (null > 2)
		close(null);
}

/*
 * A shell that has been started and waits for the rest of its script in a pipe: a template keeps one, so
 * that the first script in a clone costs no fork and no exec, which its QEMU would have to translate.
 */
static struct {
	pid_t pid; /* 0: there is none */
	int ends[2];
} spare;

static void close_spare_pipe(void)
{
	close(spare.ends[0]);
	close(spare.ends[1]);
}

static void drop_spare(void)
{
	kill(-spare.pid, SIGKILL);
	waitpid(spare.pid, NULL, 0);
	spare.pid = 0;
	close_spare_pipe();
}

/* It opens the pipe by our name for it, so that its own commands inherit nothing of this. */
__attribute__((noreturn)) static void exec_spare(void)
{
	char script[64];

	snprintf(script, sizeof(script), ". /proc/%d/fd/%d", getppid(), spare.ends[0]);
	become_command();
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	_exit(127);
}

/* Its script begins with a blank, which is gone from the pipe once it reads there. */
static bool start_spare(void)
{
	long long limit_ms = now_ms() + SPARE_START_MS;
	int unread = 1;

	if (spare.pid)
		return true;
	if (pipe2(spare.ends, O_CLOEXEC | O_NONBLOCK))
		return false;
	spare.pid = fork();
	if (spare.pid == 0)
		exec_spare();
	if (spare.pid < 0 || write(spare.ends[1], " ", 1) != 1) {
		spare.pid = 0;
		close_spare_pipe();
		return false;
	}
	setpgid(spare.pid, spare.pid);
	while (!ioctl(spare.ends[0], FIONREAD, &unread) && unread && now_ms() < limit_ms)
		usleep(1000);
	if (!unread)
		return true;
	drop_spare();
	return false;
}

/* Has the spare shell run a script: its pid, or 0 when it does not and none of the script has run. */
static pid_t use_spare(const char *script, size_t length)
{
	pid_t child = spare.pid;

	if (!child || length > SPARE_SCRIPT)
		return 0;
	if (waitpid(child, NULL, WNOHANG) != 0) { /* somebody killed it */
		spare.pid = 0;
		close_spare_pipe();
		return 0;
	}
	/* We hold the other end too, so this cannot fail but for want of memory, and then as a whole. */
	if (length && write(spare.ends[1], script, length) != (ssize_t)length) {
		drop_spare();
		return 0;
	}
	spare.pid = 0;
	close_spare_pipe();
	return child;
}

/* Takes every 0x03 out of what has been received; true when there was one. */
static bool interrupted(void)
{
	bool found = false;
	char *byte;

	while (held > 0 && (byte = memchr(received + start, CTRL_C, held))) {
		memmove(byte, byte + 1, received + start + held - byte - 1);
		held--;
		found = true;
	}
	return found;
}

static int wait_for(pid_t leader)
{
	struct pollfd watched[] = {
		{ .fd = line_fd, .events = POLLIN },
		{ .fd = child_fd, .events = POLLIN },
	};
	struct signalfd_siginfo discarded;
	long long kill_at_ms = 0;
	int wait_status;

	for (;;) {
		pid_t ended = waitpid(leader, &wait_status, WNOHANG);
		long long left_ms = kill_at_ms ? kill_at_ms - now_ms() : -1;

		if (ended < 0)
			die("waitpid");
		if (ended == leader) {
			if (kill_at_ms)
				kill(-leader, SIGKILL);
			return status_of(wait_status);
		}
		if (kill_at_ms && left_ms <= 0) {
			kill(-leader, SIGKILL);
			left_ms = INTERRUPT_GRACE_MS;
		}
		if (poll(watched, 2, left_ms) < 0 && errno != EINTR)
			die("poll");
		if (watched[1].revents && read(child_fd, &discarded, sizeof(discarded)) < 0)
			die("signalfd");
		if (!watched[0].revents)
			continue;
		receive();
		if (interrupted() && !kill_at_ms) {
			kill(-leader, SIGINT);
			kill_at_ms = now_ms() + INTERRUPT_GRACE_MS;
		}
		if (held > LINE_LIMIT) {
			errno = EMSGSIZE;
			die("requests sent ahead of an answer");
		}
	}
}

/*
 * The child leads a process group and not a session: nothing it opens can become its controlling
 * terminal, and the group can be killed as one.
 */
static void run_script(const char *nonce, char *text)
{
	ssize_t length = base64_decode(text);
	pid_t child;

	if (length < 0 || memchr(text, '\0', length)) {
		say("granule agent: the script is not base64 of text\n");
		close_answer(nonce, 2);
		return;
	}
	child = use_spare(text, length);
	if (!child)
		child = fork();
	if (child < 0) {
		say("granule agent: fork: %s\n", strerror(errno));
		close_answer(nonce, 126);
		return;
	}
	if (child == 0) {
		become_command();
		exec_script(text, length);
	}
	setpgid(child, child);
	busy = true;
	child = wait_for(child);
	busy = false;
	close_answer(nonce, child);
}

/* Reads all LENGTH bytes even when they cannot be stored: the line must not be left inside a file. */
static void put_file(const char *nonce, char *path, long long mode, long long length)
{
	char *name = strdup(path); /* the bytes that follow overwrite the request */
	int file = name ? open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	int error = file < 0 ? errno : 0;

	while (length > 0) {
		size_t chunk;

		if (held == 0)
			receive();
		chunk = (long long)held < length ? held : (size_t)length;
		for (size_t done = 0; done < chunk && !error;) {
			ssize_t stored = write(file, received + start + done, chunk - done);

			if (stored < 0 && errno != EINTR)
				error = errno;
			if (stored > 0)
				done += stored;
		}
		consume(chunk);
		length -= chunk;
	}
	if (file >= 0) {
		if (!error && fchmod(file, mode))
			error = errno;
		if (close(file) && !error)
			error = errno;
	}
	if (error)
		say("granule agent: %s: %s\n", name ? name : "put", strerror(error));
	close_answer(nonce, error ? 1 : 0);
	free(name);
}

/* A file's bytes and their number, read to the end before anything is sent: NULL sets errno. */
static char *slurp(int file, size_t *length)
{
	size_t size = 64 << 10;
	char *bytes = malloc(size);

	*length = 0;
	while (bytes) {
		ssize_t got = read(file, bytes + *length, size - *length);

		if (got == 0)
			return bytes;
		if (got < 0 && errno == EINTR)
			continue;
		if (got > 0)
			*length += got;
		if (got < 0 || *length > SLURP_LIMIT) {
			if (got > 0)
				errno = EFBIG;
			break;
		}
		if (*length == size) {
			char *larger = realloc(bytes, size *= 2);

			if (!larger)
				break;
			bytes = larger;
		}
	}
	free(bytes);
	return NULL;
}

/* A regular file is sent as it is read; when it shrinks meanwhile, zeros and a status make up. */
static int stream(int file, off_t length)
{
	static char chunk[64 << 10];
	int status = 0;

	while (length > 0) {
		size_t wanted = length < (off_t)sizeof(chunk) ? (size_t)length : sizeof(chunk);
		ssize_t got = status ? 0 : read(file, chunk, wanted);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			status = 1;
			memset(chunk, 0, wanted);
			got = wanted;
		}
		send_all(chunk, got);
		length -= got;
	}
	return status;
}

static void get_file(const char *nonce, const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat about;
	int status = 1;

	if (file < 0 || fstat(file, &about)) {
		say("granule agent: %s: %s\n", path, strerror(errno));
	} else if (S_ISREG(about.st_mode) && about.st_size > 0) {
		say("granule:%s:length %lld\n", nonce, (long long)about.st_size);
		status = stream(file, about.st_size);
	} else {
		size_t length;
		char *bytes = slurp(file, &length);

		if (bytes) {
			say("granule:%s:length %zu\n", nonce, length);
			send_all(bytes, length);
			status = 0;
		} else {
			say("granule agent: %s: %s\n", path, strerror(errno));
		}
		free(bytes);
	}
	if (file >= 0)
		close(file);
	close_answer(nonce, status);
}

/* In the child: a login shell that owns the terminal of that name. The kernel's defaults are sane modes. */
__attribute__((noreturn)) static void exec_login(const char *terminal_path, const struct winsize *size)
{
	int terminal;

	setsid();
	terminal = open(terminal_path, O_RDWR); /* the first one a session leader opens is its own */
	if (terminal < 0)
		_exit(126);
	if (size->ws_row)
		ioctl(terminal, TIOCSWINSZ, size);
	for (int fd = 0; fd < 3; fd++)
		dup2(terminal, fd);
	if (terminal > 2)
		close(terminal);
	default_signals();
	execl("/bin/sh", "-sh", (char *)NULL);
	_exit(127);
}

/* Sends what the terminal shows; false when it has nothing more. */
static bool show(int terminal)
{
	static char shown[16 << 10];
	ssize_t got = read(terminal, shown, sizeof(shown));

	if (got > 0)
		send_all(shown, got);
	return got > 0 || (got < 0 && errno == EINTR);
}

/* Carries bytes between the line and the terminal until the shell has ended; returns its status. */
static int relay(int terminal, pid_t shell)
{
	struct signalfd_siginfo discarded;
	int wait_status;

	while (waitpid(shell, &wait_status, WNOHANG) == 0) {
		struct pollfd watched[] = {
			{ .fd = line_fd, .events = held < LINE_LIMIT ? POLLIN : 0 },
			{ .fd = child_fd, .events = POLLIN },
			{ .fd = terminal, .events = POLLIN | (held ? POLLOUT : 0) },
		};

		if (poll(watched, 3, -1) < 0 && errno != EINTR)
			die("poll");
		if (watched[1].revents && read(child_fd, &discarded, sizeof(discarded)) < 0)
			die("signalfd");
		if (watched[0].revents)
			receive();
		if (watched[2].revents & POLLIN)
			show(terminal);
		if (held) {
			ssize_t typed = write(terminal, received + start, held);

			if (typed > 0)
				consume(typed);
		}
		/* A shell that has closed its terminal and lives on is waited for without spinning. */
		if (watched[2].revents & POLLHUP)
			usleep(10000);
	}
	while (show(terminal))
		;
	consume(held); /* typed ahead for a shell that is gone */
	return status_of(wait_status);
}

static void interact(const char *nonce, const struct winsize *size)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	char path[64];
	int status = 126;

	if (terminal < 0 || grantpt(terminal) || unlockpt(terminal) ||
	    ptsname_r(terminal, path, sizeof(path))) {
		say("granule agent: a terminal: %s\n", strerror(errno));
	} else {
		pid_t shell = fork();

		if (shell == 0)
			exec_login(path, size);
		if (shell > 0)
			status = relay(terminal, shell);
	}
	if (terminal >= 0)
		close(terminal);
	close_answer(nonce, status);
}

/*
 * Clones of one template wake with the same random state: they get entropy of their own, and a generator
 * keyed with it at once (random(4); without RNDRESEEDCRNG the old key serves for up to a minute).
 */
static int reseed(const char *seed, size_t length)
{
	union {
		struct rand_pool_info info;
		char room[sizeof(struct rand_pool_info) + SEED_LIMIT];
	} entropy;
	int error = 0;

	if (random_fd < 0)
		return ENODEV;
	entropy.info.entropy_count = 8 * length;
	entropy.info.buf_size = length;
	memcpy(entropy.info.buf, seed, length);
	if (ioctl(random_fd, RNDADDENTROPY, &entropy.info) || ioctl(random_fd, RNDRESEEDCRNG))
		error = errno;
	explicit_bzero(&entropy, sizeof(entropy));
	return error;
}

static void freshen(const char *nonce, const char *seed, size_t length, const struct timespec *now)
{
	int error = reseed(seed, length);

	if (error)
		say("granule agent: new random numbers: %s\n", strerror(error));
	if (clock_settime(CLOCK_REALTIME, now)) {
		error = errno;
		say("granule agent: the time of day: %s\n", strerror(error));
	}
	close_answer(nonce, error ? 1 : 0);
}

/* One request; false when the line is not one. */
static bool answer(char *line)
{
	char *rest = strchr(line, ' '), *verb, *words[4] = { NULL };
	char nonce[NONCE_LIMIT + 1];
	long long mode, length;

	if (!rest || rest == line || rest - line > NONCE_LIMIT)
		return false;
	*rest++ = '\0';
	strcpy(nonce, line);
	verb = rest;
	for (int i = 0; i < 4 && (rest = strchr(rest, ' ')); i++) {
		*rest++ = '\0';
		words[i] = rest;
	}
	/* No verb can be a script: the length of padded base64 is a multiple of 4. */
	if (!strcmp(verb, "put")) {
		char *path = decode_path(words[0]);

		if (!path || words[3] || !parse_number(words[1], 8, 07777, &mode) ||
		    !parse_number(words[2], 10, 1LL << 40, &length))
			return false;
		put_file(nonce, path, mode, length);
	} else if (!strcmp(verb, "get")) {
		char *path = decode_path(words[0]);

		if (!path || words[1])
			return false;
		get_file(nonce, path);
	} else if (!strcmp(verb, "tty")) {
		struct winsize size = { 0 };
		long long rows, columns;

		if (words[0]) {
			if (words[2] || !parse_number(words[0], 10, 9999, &rows) ||
			    !parse_number(words[1], 10, 9999, &columns))
				return false;
			size.ws_row = rows;
			size.ws_col = columns;
		}
		interact(nonce, &size);
	} else if (!strcmp(verb, "fresh")) {
		ssize_t seed = words[0] ? base64_decode(words[0]) : -1;
		long long seconds, nanoseconds;

		if (seed <= 0 || seed > SEED_LIMIT || words[3] ||
		    !parse_number(words[1], 10, 1LL << 40, &seconds) ||
		    !parse_number(words[2], 10, 999999999, &nanoseconds))
			return false;
		freshen(nonce, words[0], seed,
			&(struct timespec){ .tv_sec = seconds, .tv_nsec = nanoseconds });
	} else if (!strcmp(verb, "spare") && !words[0]) {
		close_answer(nonce, start_spare() ? 0 : 1);
	} else if (!words[0]) {
		run_script(nonce, verb);
	} else {
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	sigset_t child;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: granule-agent DEVICE [exact]\n");
		return 2;
	}
	setsid();
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (child_fd < 0)
		die("signalfd");
	random_fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	open_line(argv[1]);
	if (argc == 3)
		make_trap();
	say("granule: ready\n");
	for (;;) {
		char *line = next_line();

		if (!answer(line)) {
			say("granule agent: not a request\n");
			close_answer("?", 2);
		}
	}
}
