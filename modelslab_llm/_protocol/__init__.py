"""Speak the Messages protocol: what is sent, and what an answer means.

Pure: no socket, no clock, no await, no HTTP library (httpx_sse aside, in `sse`).
"""
