# shellcheck shell=sh
# Memory under load keeps its contents, and TCP over the loopback its bytes.

holds "stress-ng's memory stressors verify" \
    stress-ng --vm 2 --vm-bytes 32m --vm-ops 200 --vm-method all --verify --timeout 120 --quiet
holds "stress-ng's mmap stressor verifies" \
    stress-ng --mmap 1 --mmap-bytes 16m --mmap-ops 20 --verify --timeout 120 --quiet
iperf3 --server --one-off --daemon --bind 127.0.0.1
holds "iperf3 carries four megabytes" iperf3 --client 127.0.0.1 --bytes 4M --connect-timeout 20000
finish
