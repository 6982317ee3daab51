from funcgrad.cli.app import main

__all__ = ["main"]
