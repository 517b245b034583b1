"""Logging in to a guest by SSH: a server in it, a port to it, and who is expected there.

server   what brings up sshd in a kind of guest and says its host key: the micro guest's is here
access   the connection of one machine, made when it is first wanted
client   what an `ssh` of the user's needs: keys as files that leave nothing behind
"""

from harness.login.access import SshAccess
from harness.login.client import ClientFiles
from harness.login.server import Dropbear, OpenSsh, SshServer

__all__ = ["ClientFiles", "Dropbear", "OpenSsh", "SshAccess", "SshServer"]
