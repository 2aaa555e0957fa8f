"""A directory, served."""

from tailrace.files.files import Files

__all__ = ["Files"]
