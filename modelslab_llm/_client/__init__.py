"""Join the rooms into the two clients: one line for each operation, one file for each resource.

Nothing is decided here.
"""
