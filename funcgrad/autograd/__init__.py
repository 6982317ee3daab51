"""Scalar automatic differentiation: pure functions on Python floats, with the signatures of JAX. No JAX inside.

Read it in this order: `graph` (what a function did), `primitives` (the derivative of each step), `transforms` (the
chain rule, forwards and backwards); then `tracing` (how a function is watched) and `compile` (how it becomes fast
again).
"""

from funcgrad.autograd.check import check_grads
from funcgrad.autograd.columns import vmap
from funcgrad.autograd.compile import make_graph
from funcgrad.autograd.custom import custom_jvp, custom_vjp, stop_gradient
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.paths import jit
from funcgrad.autograd.tracing import EscapedError
from funcgrad.autograd.transforms import (
    grad,
    hessian,
    hvp,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    value_and_grad,
    vjp,
)
from funcgrad.autograd.trees import register_tree

__all__ = [
    "EscapedError",
    "Graph",
    "check_grads",
    "custom_jvp",
    "custom_vjp",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "make_graph",
    "register_tree",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
]
