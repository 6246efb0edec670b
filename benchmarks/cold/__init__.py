"""The three programs whose start is measured: each is run as a file, and imports what it needs.

Each streams one line, prints it word by word, and then one line of numbers: the moment of its last
word, its CPU seconds since it started, and its peak resident size as `getrusage` says it.
"""
