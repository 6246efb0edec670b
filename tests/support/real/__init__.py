"""The real parts that `make real` runs: a small model, a gateway, other clients, Claude Code."""
