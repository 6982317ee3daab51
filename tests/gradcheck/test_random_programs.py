"""Random programs: what they contain, that they are reproducible, and that their source is what runs."""

import math
import random

import pytest

from funcgrad import autograd as ag
from funcgrad.autograd import ops
from funcgrad.gradcheck import random_programs as programs


def test_the_same_seed_gives_the_same_programs_and_points() -> None:
    def drawn(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [(one := programs.random_program(rng), programs.points(rng, one.inputs, 5)) for _ in range(5)]

    assert repr(drawn(1)) == repr(drawn(1))
    assert repr(drawn(1)) != repr(drawn(2))


@pytest.mark.exhaustive
def test_random_programs_have_all_that_the_table_promises() -> None:
    rng = random.Random(0)
    made = [programs.random_program(rng, name) for name in [*programs.FORMS] * 3]
    text = "\n".join(program.source() for program in made)
    for part in (" if ", "system.grad(", "system.jvp(", "system.vjp(", "system.jit(", "p['w']", "(y, z) = p"):
        assert part in text
    assert {program.inputs for program in made} == {1, 2, 3}
    assert all(3 <= len(program.statements) <= 12 for program in made)
    assert set(ops.__all__) <= set().union(*[program.functions() for program in made])


def test_points_have_edges_and_ties() -> None:
    rng = random.Random(0)
    edges = {x for point in programs.points(rng, 2, 500) for x in point}
    assert {0.0, math.inf, -math.inf, 5e-324, -1e300} <= edges
    assert any(x != x for x in edges)
    assert any(x == y for x, y in programs.points(rng, 2, 500))


def test_every_statement_depends_on_the_inputs() -> None:
    """A constant would be computed before the error model begins: JAX's betaln(1, 1) may be off by 4 ulp, ours is 0."""
    rng = random.Random(3)
    for _ in range(20):
        program = programs.random_program(rng)
        for count in range(1, len(program.statements) + 1):
            part = program._replace(statements=program.statements[:count])
            graph = ag.make_graph(programs.build(part)(ag))(*part.arguments([0.7, 0.4, 1.2][: part.inputs]))
            assert isinstance(graph.outputs[0], ag.Var), part.source()


def test_the_source_of_a_program_is_the_program() -> None:
    rng = random.Random(5)
    program = programs.random_program(rng)
    space: dict[str, object] = {"ops": ops, "math": math}
    exec(program.source(), space)
    args = program.arguments([0.3] * program.inputs)
    assert space["program"](ag)(*args) == programs.build(program)(ag)(*args)  # type: ignore[operator]
