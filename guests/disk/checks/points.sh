# shellcheck shell=sh
# Put before each of the scripts beside it, which end with `finish`: what they compare, in the form that the probe
# programs use (harness/linux/tap.py). Lines that begin with `# ` are notes for the report.

points=0

one_line() {
    printf '%s' "$1" | tail -n 3 | cut -c 1-300 | tr '\n#' ' ;' | sed 's/ *$//'
}

# holds WHAT COMMAND…: that the command succeeds; else with what it said.
holds() {
    points=$((points + 1))
    what=$1
    shift
    if said=$("$@" 2>&1); then
        echo "ok $points - $what"
    else
        status=$?
        echo "not ok $points - $what # wanted success saw status $status: $(one_line "$said")"
        return 1
    fi
}

# equal WHAT WANTED SEEN
equal() {
    points=$((points + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $points - $1"
    else
        echo "not ok $points - $1 # wanted ${2:-nothing} saw $(one_line "${3:-nothing}")"
        return 1
    fi
}

# absent WHAT REASON: what cannot be compared here.
absent() {
    points=$((points + 1))
    echo "ok $points - $1 # SKIP $2"
}

note() {
    echo "# $1"
}

# disk SERIAL: the disk of that serial number, on virtio or, on Hyper-V, SCSI.
disk() {
    at=$(grep -lx "$1" /sys/block/vd*/serial 2>/dev/null || grep -ls "$1" /sys/block/sd*/device/vpd_pg80)
    at=${at#/sys/block/}
    echo "/dev/${at%%/*}"
}

finish() {
    echo "1..$points"
}
