#!/bin/sh
# Runs NAME.elf, which lies beside this file, with the C library in ../../libc: kbuild's programs of a newer
# Debian on an older one.
set -eu
here=$(dirname "$0")
libc=$here/../../libc
exec "$libc"/ld-linux-*.so.* --library-path "$libc" "$0.elf" "$@"
