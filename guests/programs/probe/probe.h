/* The subcommands: each gets its arguments without its own name, and returns the exit status. */
#ifndef PROBE_H
#define PROBE_H

int probe_pagesize(int argc, char **argv);
int probe_mapping(int argc, char **argv);
int probe_fork(int argc, char **argv);
int probe_filemap(int argc, char **argv);
int probe_guard(int argc, char **argv);
int probe_hugetlb(int argc, char **argv);
int probe_thp(int argc, char **argv);
int probe_mthp(int argc, char **argv);
int probe_swap(int argc, char **argv);
int probe_tcp(int argc, char **argv);
int probe_hold(int argc, char **argv);
int probe_pages(int argc, char **argv);
int probe_pageflags(int argc, char **argv);
int probe_direct(int argc, char **argv);

#endif
