"""Scalar automatic differentiation: pure functions on Python floats, with the signatures of JAX. No JAX inside.

Read it in this order: `graph` (what a function did), `primitives` (the derivative of each step), `transforms` (the
chain rule, forwards and backwards): these three are the whole of backpropagation. Then `tracing` and `pytrees` (how a
function is watched), `custom_rules`, and `ops` (the functions to call on traced floats). How it becomes fast comes
last: `trace_graph`, `codegen`, `compiler`, `compiled_rules`, and on top of them `jit_cache` (jit) and `batching`
(vmap). `inspection` and `draw` show a graph; `finite_differences` checks derivatives.
"""

from funcgrad.autograd.batching import column_function, vmap
from funcgrad.autograd.codegen import INFIX
from funcgrad.autograd.compiled_rules import compile_on_first_use
from funcgrad.autograd.custom_rules import custom_jvp, custom_vjp, stop_gradient
from funcgrad.autograd.draw import equation_text, gradients, names_of, outputs_of, pulls, shown, to_svg, to_text
from funcgrad.autograd.finite_differences import check_grads
from funcgrad.autograd.graph import Equation, Graph, Primitive, Var
from funcgrad.autograd.inspection import make_graph
from funcgrad.autograd.jit_cache import jit
from funcgrad.autograd.primitives import TABLE
from funcgrad.autograd.pytrees import flatten, map_leaves, register_tree
from funcgrad.autograd.tracing import EscapedError, concrete
from funcgrad.autograd.transforms import (
    grad,
    hessian,
    hvp,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    record,
    value_and_grad,
    vjp,
)

# The transformations work without the compiler, by the rules as they stand in the table; with it they are faster.
compile_on_first_use(TABLE.values())

__all__ = [
    "INFIX",
    "Equation",
    "EscapedError",
    "Graph",
    "Primitive",
    "Var",
    "check_grads",
    "column_function",
    "concrete",
    "custom_jvp",
    "custom_vjp",
    "equation_text",
    "flatten",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "make_graph",
    "map_leaves",
    "names_of",
    "outputs_of",
    "pulls",
    "record",
    "register_tree",
    "shown",
    "stop_gradient",
    "to_svg",
    "to_text",
    "value_and_grad",
    "vjp",
    "vmap",
]
