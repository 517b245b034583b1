#!/bin/sh
# Run under `setpriv --pdeathsig KILL`: becomes "$@" unless the parent has died already.
# The signal is armed after the fork, so a parent killed in between would leave us orphaned: its pid,
# given as $1, is compared with ours as the shell read it, which is after the arming.
[ "$PPID" = "$1" ] || exit 125
shift
exec "$@"
