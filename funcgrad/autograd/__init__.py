"""Scalar automatic differentiation: pure functions on Python floats, with the signatures of JAX. No JAX inside.

Read it in this order: `graph` (what a function did), `primitives` (the derivative of each step), `transforms` (the
chain rule, forwards and backwards): these three are the whole of backpropagation. Then `tracing` and `pytrees` (how a
function is watched), `custom_rules`, and `ops` (the functions to call on traced floats). How it becomes fast comes
last: `trace_graph`, `codegen`, `compiler`, `compiled_rules`, `path_tree`, and on top of them `variants` and
`jit_cache` (jit), `columns` and `batching` (vmap). `inspection` and `draw` show a graph; `finite_differences` checks
derivatives, `debugging` finds where a nan came from. `numpy_functions` and `jax_values` say what happens to NumPy's
functions and to JAX's values.
"""

from funcgrad.autograd import numpy_functions
from funcgrad.autograd.batching import vmap
from funcgrad.autograd.columns import column_function
from funcgrad.autograd.compiled_rules import compile_on_first_use
from funcgrad.autograd.custom_rules import custom_jvp, custom_vjp, stop_gradient
from funcgrad.autograd.debugging import debug_nans
from funcgrad.autograd.draw import equation_text, format_number, gradients, names_of, text_table, to_svg, to_text
from funcgrad.autograd.errors import EscapedError
from funcgrad.autograd.finite_differences import check_grads
from funcgrad.autograd.graph import Equation, Graph, Var, outputs_of
from funcgrad.autograd.inspection import label, make_graph, reverse_graph
from funcgrad.autograd.jacobians import hessian, jacfwd, jacrev
from funcgrad.autograd.jit_cache import jit
from funcgrad.autograd.primitives import TABLE
from funcgrad.autograd.pytrees import register_dataclass, register_tree
from funcgrad.autograd.taylor import jet
from funcgrad.autograd.transforms import grad, hvp, jvp, linearize, value_and_grad, vjp

# The transformations work without the compiler, by the rules as they stand in the table; with it they are faster.
compile_on_first_use(TABLE.values())
numpy_functions.install()

__all__ = [
    "Equation",
    "EscapedError",
    "Graph",
    "Var",
    "check_grads",
    "column_function",
    "custom_jvp",
    "custom_vjp",
    "debug_nans",
    "equation_text",
    "format_number",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jet",
    "jit",
    "jvp",
    "label",
    "linearize",
    "make_graph",
    "names_of",
    "outputs_of",
    "register_dataclass",
    "register_tree",
    "reverse_graph",
    "stop_gradient",
    "text_table",
    "to_svg",
    "to_text",
    "value_and_grad",
    "vjp",
    "vmap",
]
