"""The command line: `main` parses the options, runs one command and returns its exit status.

Read `options` first (every option, declared once; `values` are their types), then `parser` (the commands), `app`
(`main`) and `run` (what a command on a data set goes through). Each command has a module: `demo`, `data`, `knn`,
`train`, `crossval`, `predict`, `explain`, `gradcheck`. `console` is what a user sees, `signals` handles interrupts.
"""

from funcgrad.cli.app import main

__all__ = ["main"]
