#!/bin/sh
# Stands for apt-get, apt-cache and dpkg-deb, by the name it is called by. In $FAKES:
#   called            gets a line per call
#   targets           what `apt-get indextargets` prints
#   offline           present: `apt-get update` fails
#   show-NAME         what `apt-cache show NAME` prints; show-NAME.next replaces it at an update
#   gone              present until an update: `apt-get download` fails
#   uris              what `apt-get --print-uris install` prints; absent: it fails
#   tree-NAME/        what NAME's .deb holds
set -eu
me=$(basename "$0")
echo "$me $*" >>"$FAKES/called"
last=
for argument; do last=$argument; done
case "$me $*" in
"apt-get indextargets"*)
	cat "$FAKES/targets"
	;;
"apt-get "*" update")
	if [ -e "$FAKES/offline" ]; then
		echo "E: Temporary failure resolving 'mirror.invalid'"
		exit 100
	fi
	rm -f "$FAKES/gone"
	for next in "$FAKES"/show-*.next; do
		if [ -e "$next" ]; then mv "$next" "${next%.next}"; fi
	done
	;;
"apt-get "*" download "*)
	if [ -e "$FAKES/gone" ] || [ -e "$FAKES/offline" ]; then
		echo "E: Failed to fetch: 404 Not Found"
		exit 100
	fi
	echo "dlstatus:1:0.0000:Retrieving file 1 of 1"
	echo "dlstatus:1:50.5000:Retrieving file 1 of 1"
	name=${last%%=*}
	echo "$name" >"./${name}_1_arm64.deb"
	;;
"apt-get "*" --print-uris "*)
	if [ ! -e "$FAKES/uris" ]; then
		echo "E: Unable to locate package $last"
		exit 100
	fi
	cat "$FAKES/uris"
	;;
"apt-get "*" --download-only "*)
	if [ -e "$FAKES/offline" ]; then
		echo "E: Failed to fetch: 404 Not Found"
		exit 100
	fi
	for argument; do
		case $argument in Dir::Cache::archives=*) echo deb >"${argument#*=}/${last}_1_arm64.deb" ;; esac
	done
	;;
"apt-cache "*)
	if [ ! -e "$FAKES/show-$last" ]; then
		echo "E: No packages found" >&2
		exit 100
	fi
	cat "$FAKES/show-$last"
	;;
"dpkg-deb -x "*)
	cp -r "$FAKES/tree-$(cat "$2")/." "$3"
	;;
*)
	echo "fake-apt.sh does not know: $me $*" >&2
	exit 1
	;;
esac
