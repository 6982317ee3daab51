"""Scalar automatic differentiation: pure functions on Python floats, with the signatures of JAX. No JAX inside.

Read it in this order: `graph` (what a function did), `primitives` (the derivative of each step), `transforms` (the
chain rule, forwards and backwards); then `tracing` (how a function is watched) and `compile` (how it becomes fast
again).
"""

from funcgrad.autograd.batching import vmap
from funcgrad.autograd.compiler import make_graph
from funcgrad.autograd.custom_rules import custom_jvp, custom_vjp, stop_gradient
from funcgrad.autograd.finite_differences import check_grads
from funcgrad.autograd.graph import Graph
from funcgrad.autograd.jit_cache import jit
from funcgrad.autograd.pytrees import register_tree
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
