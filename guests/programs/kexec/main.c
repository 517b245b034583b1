/*
 * Loads the kernel that runs after this one, and starts it:
 *
 *     kexec --load IMAGE [--initrd FILE] [--command-line TEXT] [--panic] [--syscall file|load]
 *     kexec --exec
 *
 * Exit status: 0, 1 when this kernel refuses (with the errno's name), 2 for wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kexec.h"

enum { BY_EITHER, BY_FILE, BY_SEGMENTS };

static int usage(FILE *out, int status)
{
	fprintf(out,
		"usage: kexec --load IMAGE [--initrd FILE] [--command-line TEXT] [--panic]\n"
		"             [--syscall file|load]\n"
		"       kexec --exec\n\n"
		"  --load IMAGE         an uncompressed arm64 Image, to run next\n"
		"  --panic              it is to run when this kernel panics (crashkernel=SIZE)\n"
		"  --syscall file|load  kexec_file_load(2) or kexec_load(2); without it the first that is there\n"
		"  --exec               run it now\n");
	return status;
}

static int refused(const char *what)
{
	fprintf(stderr, "kexec: %s: %s: %s\n", what, strerrorname_np(errno), strerror(errno));
	return 1;
}

static int load_file(const char *kernel, const char *initrd, const char *command_line, bool panic,
		     const char **problem)
{
	unsigned long flags = (panic ? KEXEC_FILE_ON_CRASH : 0) | (initrd ? 0 : KEXEC_FILE_NO_INITRAMFS);
	int kernel_fd, initrd_fd = -1;

	*problem = kernel;
	kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	if (kernel_fd < 0)
		return -1;
	*problem = initrd;
	if (initrd && (initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC)) < 0)
		return -1;
	*problem = "kexec_file_load";
	return syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(command_line) + 1, command_line,
		       flags);
}

static int load(const char *kernel, const char *initrd, const char *command_line, bool panic, int by)
{
	const char *problem = NULL, *name = "kexec_file_load";
	int status = -1;

	if (by != BY_SEGMENTS)
		status = load_file(kernel, initrd, command_line, panic, &problem);
	if (by == BY_SEGMENTS || (by == BY_EITHER && status && errno == ENOSYS)) {
		name = "kexec_load";
		status = load_segments(kernel, initrd, command_line, panic, &problem);
	}
	if (status)
		return refused(problem);
	printf("kexec: loaded by %s\n", name);
	return 0;
}

static int run(void)
{
	char loaded = '0';
	int file = open("/sys/kernel/kexec_loaded", O_RDONLY | O_CLOEXEC);

	if (file < 0 || read(file, &loaded, 1) != 1)
		return refused("/sys/kernel/kexec_loaded");
	if (loaded != '1') {
		fprintf(stderr, "kexec: no kernel has been loaded: use --load first\n");
		return 1;
	}
	sync();
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return refused("reboot");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "load", required_argument, NULL, 'l' },	  { "exec", no_argument, NULL, 'e' },
		{ "initrd", required_argument, NULL, 'i' },	  { "panic", no_argument, NULL, 'p' },
		{ "command-line", required_argument, NULL, 'c' }, { "syscall", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },		  { 0 },
	};
	const char *kernel = NULL, *initrd = NULL, *command_line = NULL, *by = NULL;
	bool panic = false, exec = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l': kernel = optarg; break;
		case 'i': initrd = optarg; break;
		case 'c': command_line = optarg; break;
		case 's': by = optarg; break;
		case 'p': panic = true; break;
		case 'e': exec = true; break;
		case 'h': return usage(stdout, 0);
		default: return usage(stderr, 2);
		}
	}
	if (optind != argc || !kernel == !exec || (exec && (initrd || command_line || by || panic)) ||
	    (by && strcmp(by, "file") && strcmp(by, "load")))
		return usage(stderr, 2);
#ifndef __aarch64__
	fprintf(stderr, "kexec: this program is for guests of arm64, and does nothing elsewhere\n");
	return 2;
#endif
	if (exec)
		return run();
	return load(kernel, initrd, command_line ? command_line : "", panic,
		    !by ? BY_EITHER : strcmp(by, "file") ? BY_SEGMENTS : BY_FILE);
}
