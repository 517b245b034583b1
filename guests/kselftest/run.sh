#!/bin/sh
# Runs one test of kselftest as its collection's script would: run.sh HUGE_MIB [FILE=VALUE]... -- COMMAND
#
#   HUGE_MIB     memory to keep as huge pages of the default size while it runs; 0: leave them as they are
#   FILE=VALUE   a file below /proc/sys, / for its dots, that holds VALUE while it runs
#   COMMAND      for sh; may use $half_ufd_size_MB and what else run_vmtests.sh computes
#
# Ends with the command's status. Sources: Linux tools/testing/selftests/mm/run_vmtests.sh.
huge_mib=$1
shift

undo=
trap 'eval "$undo"' EXIT
trap 'exit 130' INT
set_while_running() { # FILE VALUE
    old=$(cat "$1") || return
    undo="echo '$old' >$1; $undo"
    echo "$2" >"$1"
}

meminfo() { # FIELD: its number
    while read -r name number _; do
        if [ "$name" = "$1:" ]; then
            echo "$number"
        fi
    done </proc/meminfo
}

hpgsize_KB=$(meminfo Hugepagesize)
if [ "$huge_mib" != 0 ] && [ -n "$hpgsize_KB" ]; then
    echo 3 >/proc/sys/vm/drop_caches
    echo 1 >/proc/sys/vm/compact_memory
    set_while_running /proc/sys/vm/nr_hugepages $((huge_mib * 1024 / hpgsize_KB))
fi
while [ "$1" != -- ]; do
    set_while_running "/proc/sys/${1%%=*}" "${1#*=}"
    shift
done
shift

freepgs=$(meminfo HugePages_Free)
half_ufd_size_MB=$((${freepgs:-0} * ${hpgsize_KB:-0} / 1024 / 2))
export half_ufd_size_MB
sh -c "$1"
