# shellcheck shell=sh
# dpkg finds every file of every package as it was installed.

equal "dpkg --audit" "" "$(dpkg --audit)"
equal "dpkg --verify" "" "$(dpkg --verify)"
# shellcheck disable=SC2016 # dpkg's own
count=$(dpkg-query -W -f '${db:Status-Abbrev}\n' | grep -c '^ii ')
holds "more than a hundred packages are installed: $count" test "$count" -gt 100
finish
