"""Tests of the command line: in pipes, at a real pseudo-terminal, against real servers."""
