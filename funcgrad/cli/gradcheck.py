"""`funcgrad gradcheck`: funcgrad.autograd against JAX, on random programs or on a function of the user's."""

import argparse
import os

from funcgrad.cli import console, options, own_function
from funcgrad.cli.run import ShowProgress


def run(arguments: argparse.Namespace, progress: ShowProgress) -> int:
    chosen = options.pick(options.GradcheckOptions, vars(arguments))
    if (chosen.fun is None) != (chosen.at is None):
        raise ValueError("--fun FILE.py:NAME and --at NUMBERS belong together")
    from funcgrad import gradcheck

    if chosen.fun is not None and chosen.at is not None:
        fun = own_function.load_function(chosen.fun)
        own_function.check_call(fun, chosen.at)
        try:
            checked = gradcheck.compare(fun, *chosen.at, order=chosen.order)
        except (Exception, SystemExit) as error:
            return own_function.status_of_failure("gradcheck", chosen.fun, error, arguments.debug)
    else:
        processes = min(os.cpu_count() or 1, 1 + chosen.programs // 50)  # each has to compile for itself
        with progress("gradcheck", shown=not (arguments.quiet or arguments.json)) as report_progress:
            checked = gradcheck.fuzz(
                chosen.programs,
                chosen.points,
                chosen.seed,
                chosen.order,
                processes=processes,
                progress=report_progress,
            )
    if arguments.json:
        console.print_json({"command": "gradcheck", "config": vars(chosen), **checked.as_data()})
    elif not arguments.quiet:
        print(checked)
    if not checked.ok:
        console.print_error("gradcheck", checked.notes()[0].rstrip(":"))
    return 0 if checked.ok else 1
