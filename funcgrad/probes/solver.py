"""All values of C, from the smallest to the largest, in groups that share passes; each ends with its certificate."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.probes import newton
from funcgrad.probes.certificate import Certificate, certificate
from funcgrad.probes.newton import Tuning
from funcgrad.probes.objective import Data, Evaluation, Link, Params, Setting, evaluate, mixed_hessian

SHORTEST = 2.0**-10  # of a Newton step; where even that does not descend, rounding decides
Done = Callable[[int, Params, float, Certificate], bool]  # (place, parameters, objective, bounds) → good enough?


class Problem(NamedTuple):
    """What all settings share."""

    data: Data
    link: Link
    has_intercept: bool
    done: Done
    max_passes: int
    tuning: Tuning


class State(NamedTuple):
    """One setting on its way, and in the end."""

    place: int  # among all settings
    params: Params
    found: Evaluation
    bound: Certificate
    passes: int  # over the examples: evaluations, and products with the Hessian
    in_float64: bool  # whether the products are
    finished: bool


def solve(problem: Problem, settings: Setting, start: Params) -> list[State]:
    """The settings (S,) in their order, which should ascend in C: a group begins where the one before it ended."""
    problem = problem._replace(data=jax.tree.map(jnp.asarray, problem.data))
    basis = jnp.asarray(newton.basis_of(problem.data))
    solved: list[State] = []
    lanes = problem.tuning.lanes
    for first in range(0, len(settings.strength), lanes):
        group = jax.tree.map(lambda x, first=first: np.asarray(x)[first : first + lanes], settings)
        solved += _solve_group(problem, basis, group, [first, start])
        start = solved[-1].params
    return solved


def _solve_group(problem: Problem, basis: Any, group: Setting, begin: Sequence[Any]) -> list[State]:
    first, start = begin
    starts = [start] * len(group.strength)
    states = [
        State(first + lane, start, *found, 1, False, problem.done(first + lane, start, float(found[0].value), found[1]))
        for lane, found in enumerate(_evaluated(problem, starts, group))
    ]
    while unfinished := [lane for lane, state in enumerate(states) if not state.finished]:
        # Those in float64 by themselves: one program computes in one dtype.
        lanes = [lane for lane in unfinished if states[lane].in_float64] or unfinished
        for lane, state in zip(
            lanes, _stepped(problem, basis, [states[i] for i in lanes], _taken(group, lanes)), strict=True
        ):
            states[lane] = state
    return states


def _stepped(problem: Problem, basis: Any, states: list[State], group: Setting) -> list[State]:
    """The settings after a Newton step each, which is halved until the objective falls."""
    steps, products, is_rough = _newton_steps(problem, basis, states, group)
    results, waiting, length = list(states), list(range(len(states))), 1.0
    while waiting:
        tried = [_moved(states[i].params, length, steps[i]) for i in waiting]
        again = []
        for i, params, (found, bound) in zip(
            waiting, tried, _evaluated(problem, tried, _taken(group, waiting)), strict=True
        ):
            state = results[i]._replace(passes=results[i].passes + 1)
            better = _is_better(found, state.found)
            if not better and length > SHORTEST:
                results[i] = state
                again.append(i)
                continue
            passes = state.passes + products[i]
            if better:
                state = state._replace(params=params, found=found, bound=bound)
            good = problem.done(state.place, state.params, float(state.found.value), state.bound)
            stuck = not better and state.in_float64
            results[i] = state._replace(
                passes=passes,
                in_float64=state.in_float64 or is_rough[i] or not better,
                finished=good or stuck or passes >= problem.max_passes,
            )
        waiting, length = again, length / 2
    return results


def _moved(params: Params, length: float, step: Params) -> Params:
    return Params(params.coef + length * step.coef, params.intercept + length * step.intercept)


def _is_better(new: Evaluation, old: Evaluation) -> bool:
    """A lower objective, or where rounding hides that, a shorter gradient."""
    value, before = float(new.value), float(old.value)
    return value < before or (value <= before + 1e-9 * abs(before) and _length(new.gradient) < _length(old.gradient))


def _length(gradient: Params) -> float:
    return math.hypot(np.linalg.norm(gradient.coef), np.linalg.norm(gradient.intercept))


# What is compiled, for numbers of lanes that are powers of two, so that few programs are.


def _evaluated(problem: Problem, params: Sequence[Params], group: Setting) -> list[tuple[Evaluation, Certificate]]:
    data, link, has_intercept = problem.data, problem.link, problem.has_intercept
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *params)
    found = jax.device_get(_evaluate(*_padded((stacked, group)), data, link, has_intercept))
    additions, classes, results = sum(data.weights.shape), params[0].coef.shape[0], []
    for lane, one in enumerate(params):
        own = jax.tree.map(lambda x, lane=lane: x[lane], found)
        given = one, own, link, additions, has_intercept
        bound = certificate(*given)
        near = link.spread * bound.radius * float(own.largest_norm) < 0.1
        if has_intercept and near and classes * one.coef.size <= problem.tuning.largest_mixed:
            mixed = _mixed(*_padded((_taken(stacked, [lane]), _taken(group, [lane]))), data, link)
            bound = certificate(*given, np.asarray(mixed)[0])
        results.append((own, bound))
    return results


def _newton_steps(
    problem: Problem, basis: Any, states: Sequence[State], group: Setting
) -> tuple[list[Params], list[int], list[bool]]:
    """A step for each setting, how many products with the Hessian it took, and whether rounding spoilt it."""
    data, link, has_intercept, tuning = problem.data, problem.link, problem.has_intercept, problem.tuning
    dtype = jnp.float64 if states[0].in_float64 else jnp.float32
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *[(state.params, state.found.gradient) for state in states])
    (params, gradient), setting = _padded((stacked, group))
    hessian = newton.Hessian(_probabilities(params, data, link=link, dtype=dtype), setting, data)
    every = tuning.sampled_blocks
    preconditioner = _precondition(hessian, basis.astype(dtype), link=link, every=every)
    state = newton.start(gradient, setting, preconditioner, dtype)
    # The further from the optimum, the rougher a step is enough (Eisenstat and Walker 1996).
    relative = jnp.clip(jnp.sqrt(state.norm / jnp.sum(data.weights)), 1e-4, 0.1)
    target = (state.norm * relative).astype(dtype)
    for _ in range(0, tuning.most_products, tuning.sweep):
        state = _sweep(
            state, target, hessian, preconditioner, link=link, has_intercept=has_intercept, sweep=tuning.sweep
        )
        if not np.any(state.norm > target):
            break
    steps = jax.tree.map(lambda x: np.asarray(x, np.float64), state.solution)
    is_rough = np.zeros(len(relative), bool)
    if dtype != jnp.float64:
        exact = newton.Hessian(_probabilities(params, data, link=link, dtype=jnp.float64), setting, data)
        left = _remaining(steps, gradient, exact, link, has_intercept)
        is_rough = np.asarray(left > jnp.maximum(4 * relative, 0.3))
    lanes = range(len(states))
    return [_taken(steps, lane) for lane in lanes], [int(state.products[i]) for i in lanes], is_rough.tolist()


def _taken(tree: Any, lanes: Any) -> Any:
    return jax.tree.map(lambda x: x[lanes], tree)


def _padded(tree: Any) -> Any:
    """The last lane repeated up to a power of two."""
    count = len(jax.tree.leaves(tree)[0])
    lanes = np.minimum(np.arange(1 << (count - 1).bit_length()), count - 1)
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[lanes]), tree)


_evaluate = jax.jit(evaluate, static_argnums=(3, 4))
_probabilities = jax.jit(newton.probabilities_at, static_argnames=("link", "dtype"))
_precondition = jax.jit(newton.precondition, static_argnames=("link", "every"))
_mixed = jax.jit(mixed_hessian, static_argnums=3)
_remaining = jax.jit(newton.remaining, static_argnums=(3, 4))
_sweep = jax.jit(newton.conjugate_gradients, static_argnames=("link", "has_intercept", "sweep"))
