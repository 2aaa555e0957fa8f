"""A directory, served."""

from tailrace.files.files import Files, ResourcePolicy

__all__ = ["Files", "ResourcePolicy"]
