"""The command line."""

from nfrepro.cli.app import app, main

__all__ = ["app", "main"]
