"""`funcgrad explain`: an expression, or a function of the user's own, step by step."""

import argparse
from typing import Any

from funcgrad.cli import console, options, own_function


def run(arguments: argparse.Namespace, _: Any) -> int:
    chosen = options.pick(options.ExplainOptions, vars(arguments))
    if (chosen.fun is None) != (chosen.at is None):
        raise ValueError("--fun FILE.py:NAME and --at NUMBERS belong together")
    if (chosen.expression is None) == (chosen.fun is None):
        raise ValueError("give either an EXPRESSION, such as 'a*b' a=2 b=3, or --fun FILE.py:NAME --at NUMBERS")
    from funcgrad import explain

    if chosen.fun is not None and chosen.at is not None:
        fun = own_function.load_function(chosen.fun)
        own_function.check_call(fun, chosen.at)
        try:
            explanation = explain.explain_function(fun, chosen.at, chosen.fun)
        except (Exception, SystemExit) as error:
            return own_function.status_of_failure("explain", chosen.fun, error, arguments.debug)
    else:
        explanation = explain.explain(chosen.expression or "", chosen.variables)
    if chosen.svg is not None:
        explain.write_svg(explanation, chosen.svg)
    if arguments.json:
        console.print_json(explain.as_data(explanation))
    elif not arguments.quiet:
        explain.show(explanation)
    return 0
