"""What goes over the wire between a guest and its host: each structure declared once, and nothing but form.

record      how a structure is declared
messages    channel messages, exchanged through the SynIC
packets     packets in a channel's rings
integration headers of the integration services (heartbeat, time, shutdown, KVP, VSS)
numbers     GUIDs, registers, status codes
"""
