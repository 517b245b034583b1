#!/bin/sh
# Boots the kernel beside this file under QEMU and says whether its console shows again what a check of
# granule's found. Needs qemu-system-aarch64 and a shell.
#
# QEMU=PROGRAM   another QEMU
# LIMIT_S=N      give up after N seconds (default: 600)
#
# Exit status: 1 it shows again, 0 it does not, 2 QEMU could not be started or was given up, 125 the console
# alone does not tell (README).
set -u
cd "$(dirname "$0")" || exit 2
rm -f console.log qemu.pid

set --
while IFS= read -r word; do
    set -- "$@" "$word"
done <argv

rm -f gave-up
(
    sleep "${LIMIT_S:-600}" &
    sleeper=$!
    trap 'kill "$sleeper"; exit' TERM
    wait "$sleeper"
    [ -s qemu.pid ] && read -r pid <qemu.pid && kill "$pid" && echo >gave-up
) >/dev/null 2>&1 &
watch=$!
"${QEMU:-qemu-system-aarch64}" "$@" -pidfile qemu.pid </dev/null
status=$?
kill "$watch" 2>/dev/null
if [ -e gave-up ] && [ ! -s expected ]; then
    exit 2
fi
if [ "$status" -ne 0 ] && [ ! -e gave-up ]; then
    echo "run.sh: QEMU ended with status $status" >&2
    exit 2
fi
if [ ! -s expected ]; then
    echo 'run.sh: compare console.log with README: no single line tells' >&2
    exit 125
fi

# Each line of `expected` is two pieces, with a tab between, of one line of the console.
tab=$(printf '\t')
while IFS= read -r line; do
    while IFS=$tab read -r first second; do
        case $line in
            *"$first"*"$second"*)
                echo "run.sh: it shows again: $line" >&2
                exit 1
                ;;
        esac
    done <expected
done <console.log
echo 'run.sh: it does not show' >&2
exit 0
