"""fc-bench: which way of putting particular people into a generated image is best, at what cost."""

__version__ = "0.1.0"
