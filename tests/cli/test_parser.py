"""Every command and option: what --help shows, and that nothing slow is loaded for it."""

import subprocess
import sys

import pytest

from funcgrad import cli
from funcgrad.cli import options, values
from funcgrad.cli.parser import COMMANDS, parser


@pytest.mark.parametrize(
    "command",
    [
        *["", "demo", "data", "data list", "data info", "data prepare", "knn"],
        *["train", "train linear", "train mlp", "crossval", "crossval knn", "crossval linear", "crossval mlp"],
    ],
)
def test_help_names_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: funcgrad {command}".strip())
    assert max(map(len, shown.splitlines())) <= 100
    if command in COMMANDS:
        for group in COMMANDS[command].groups:
            for one in options.declared(group):
                assert options.flag_of(one) in shown or not options.flag_of(one).startswith("-")
    if command.startswith(("knn", "train ", "crossval ")):
        for option in ("--data", "--limit-train", "--seed", "--out", "--json", "--quiet", "--debug"):
            assert option in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], ["knn", "--help"], ["crossval", "mlp", "--help"], ["knn", "--k", "0"]]
)
def test_help_and_a_mistyped_option_load_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom funcgrad.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: print(sorted({'jax', 'numpy', 'optax', 'matplotlib', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", [0.1]),
        ("0,1e-4", [0, 1e-4]),
        ("1e-4:1e-1:log4", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("1:0:lin5", [1, 0.75, 0.5, 0.25, 0]),
        ("0.1:0.3:lin2", [0.1, 0.3]),
    ],
)
def test_values_are_a_number_a_list_or_a_range(text: str, expected: list[float]) -> None:
    assert values.numbers()(text) == tuple(expected)


@pytest.mark.parametrize("command", ["knn", "crossval knn", "train mlp"])
def test_the_help_lists_the_names_of_the_tables(command: str) -> None:
    """Optimizers, schedules and initializations are too many to list; the rest is complete, each in its own list."""
    for one in (one for group in COMMANDS[command].groups for one in options.declared(group)):
        if one.metadata["names"] is not None and one.name not in ("optimizer", "schedule", "initialization"):
            listed = one.metadata["keywords"]["help"].split("[")[0].split(": ")[-1]
            assert sorted(listed.strip().split(", ")) == sorted(one.metadata["names"]())


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("data info", "data prepare", "explain")])
def test_what_is_parsed_has_the_declared_defaults_and_what_is_recorded_is_declared(command: str) -> None:
    required = ["--model", "x"] if command == "predict" else []
    parsed = vars(parser().parse_args([*command.split(), *required]))
    groups = COMMANDS[command].groups
    fields = [one for group in groups for one in options.declared(group)]
    assert parsed.keys() == {one.name for one in fields} | {"command"}
    for group in groups:
        if not required:
            assert options.pick(group, parsed) == group()
    unrecorded = {"out", "resume", "json", "quiet", "debug", "distributed", "compile_cache"}
    assert options.recorded(groups, parsed).keys() == parsed.keys() - unrecorded - {"command"}


def test_a_sweep_takes_what_one_training_takes() -> None:
    single, several = ({one.name for one in options.declared(group)} for group in SWEEPS)
    assert single <= several


SWEEPS = (options.PenaltyOptions, options.SweptOptions)
