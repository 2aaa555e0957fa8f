"""Serving the files of a directory."""

from tailrace.files.beneath import POSSIBLE
from tailrace.files.files import Files, ResourcePolicy

__all__ = ["POSSIBLE", "Files", "ResourcePolicy"]
