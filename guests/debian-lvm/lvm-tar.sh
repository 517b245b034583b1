#!/bin/sh
# Prints a tar archive of LVM's program and all that it is linked with, for an initramfs that activates a volume.
set -eu
program=/usr/sbin/lvm
# shellcheck disable=SC2046 # one word for each library
exec tar -c -h --owner=0 --group=0 --mtime=@0 -C / -f - "${program#/}" \
    $(ldd "$program" | grep -o '/[^ ]*' | sed 's,^/,,' | sort -u)
