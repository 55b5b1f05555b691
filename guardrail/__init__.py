"""The engine: it turns what changed into what must be done, and knows no Azure service by name."""

__version__ = "0.1.0"
