# shellcheck shell=sh
# systemd has reached its target and no unit has failed.

equal "state of the system" running "$(systemctl is-system-running)"
equal "units that failed" "" "$(systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1)"
equal "jobs that are left" "" "$(systemctl list-jobs --no-legend)"
units="multi-user.target dbus.service systemd-journald.service systemd-logind.service systemd-udevd.service"
# shellcheck disable=SC2086 # one word for each unit
equal "states of $units" active "$(systemctl is-active $units | sort -u)"
note "$(systemd-analyze time | head -n 1)"
finish
