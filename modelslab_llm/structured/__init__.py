"""Structured output: how it is asked for, read and streamed."""
