#!/bin/sh
# The compiler under one word, for makefiles and scripts that ask for it by "$(CC)": with headers and libraries
# of the arm64 sysroot in GRANULE_SYSROOT and, of the machine that builds, with the compiler's own alone.
library=$GRANULE_SYSROOT/usr/lib/aarch64-linux-gnu
include=$GRANULE_SYSROOT/usr/include
own=$("$GRANULE_CC" -print-file-name=include)
exec "$GRANULE_CC" "--sysroot=$GRANULE_SYSROOT" "-B$library/" "-L$library" \
    -nostdinc -isystem "$own" -isystem "$include/aarch64-linux-gnu" -isystem "$include" "$@"
