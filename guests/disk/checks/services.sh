# shellcheck shell=sh
# systemd has reached its target and no unit has failed, but for those that the image's recipe names.

may_fail=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^granule\.may_fail=//p' | tr ',' '\n')
failed=$(systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1)
expected=$(echo "$failed" | grep -Fx -e "$may_fail" | grep .)
state=running
if [ -n "$expected" ]; then
    state=degraded
    note "failed, as the recipe says that they may: $(echo "$expected" | tr '\n' ' ')"
fi
equal "state of the system" "$state" "$(systemctl is-system-running)"
equal "units that failed" "" "$(echo "$failed" | grep -vFx -e "$may_fail")"
equal "jobs that are left" "" "$(systemctl list-jobs --no-legend)"
units="multi-user.target systemd-journald.service systemd-udevd.service"
# shellcheck disable=SC2086 # one word for each unit
equal "states of $units" active "$(systemctl is-active $units | sort -u)"
note "$(systemd-analyze time | head -n 1)"
finish
