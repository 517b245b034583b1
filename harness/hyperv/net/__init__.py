"""A host on a virtual link: ARP, IPv4, ICMP echo, DHCP and TCP as state machines over bytes.

No socket is opened and no network of this machine's is touched. Nothing here may import anything else of the
harness's: frames go in, frames come out, and time is an argument. What is malformed is dropped and counted.
"""
