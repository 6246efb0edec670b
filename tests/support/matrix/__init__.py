"""The fault matrix: what servers do wrong, and what the caller of a client sees of it."""
