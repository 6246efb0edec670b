"""Speak the Messages protocol: values in, values out; no socket, no clock, no HTTP library."""
