"""`funcgrad explain`: an expression step by step."""

import argparse
from typing import Any

from funcgrad.cli import console


def run(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import explain

    explanation = explain.explain(arguments.expression, arguments.variables)
    if arguments.svg is not None:
        explain.write_svg(explanation, arguments.svg)
    if arguments.json:
        console.print_json(explain.as_data(explanation))
    elif not arguments.quiet:
        explain.show(explanation)
    return 0
