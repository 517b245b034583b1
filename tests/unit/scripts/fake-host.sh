#!/bin/sh
# Stands for what scripts call, by the name it is called by. $CALLED gets a line per call.
# With $PIP_FAILS set, pip fails.
set -eu
me=$(basename "$0")
echo "$me $*" >>"$CALLED"
case "$me $*" in
"dpkg-query "*)
	echo installed
	;;
"python3 --version")
	echo "Python 3.11.0"
	;;
"python3 -m venv "*)
	mkdir -p "$3/bin"
	ln -s "$0" "$3/bin/pip"
	ln -s "$0" "$3/bin/python"
	;;
"pip "*)
	if [ -n "${PIP_FAILS:-}" ]; then
		echo "ERROR: no route to host" >&2
		exit 1
	fi
	;;
esac
