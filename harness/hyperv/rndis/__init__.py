"""Remote NDIS behind netvsc: control messages, packets with their information, and what is done to frames.

`adapter` answers control messages, `packet` takes data messages apart and makes them, `offload` does what a
driver leaves to the host. All of it works on bytes: rings and buffers are the device's.
"""
