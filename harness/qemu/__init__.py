"""QEMU: what this host's can do, its command line, its process, and the Machine that ties them together."""
