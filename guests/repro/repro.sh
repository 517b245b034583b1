#!/bin/sh
# Sourced by the micro guest's init in what `granule repro` makes: runs what a check ran, says what came of it
# on the console, and powers off. Nobody is at the other end of any line.
exec </dev/null >/dev/console 2>&1
cd /root || cd /
for script in /etc/granule/repro/*; do
    echo "granule-repro: begin ${script##*/}"
    sh "$script"
    echo "granule-repro: status $? of ${script##*/}"
done
echo 'granule-repro: end'
poweroff -f
