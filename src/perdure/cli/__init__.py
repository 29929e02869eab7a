"""Parse, validate, call, print; no arithmetic."""

from perdure.cli.app import main

__all__ = ["main"]
