"""The version, in the one place that packaging and the user-agent both read."""

__version__ = "0.1.0"
