"""Carry requests and answers: with `testing`, the only room that names an HTTP library.

It decides nothing about the protocol: `_protocol` says what to send and what an answer means.
"""
