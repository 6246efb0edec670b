"""Play a script: as a server on a socket, and as a transport without one."""
