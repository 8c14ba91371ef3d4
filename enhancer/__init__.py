"""A product photo becomes an advertisement, live."""

__version__ = "0.1.0"
