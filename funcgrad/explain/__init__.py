"""An expression as a user types it, step by step: value, gradient, Hessian, graph, backpropagation, compiled source.

Read `parser` first (an expression becomes a function; nothing is evaluated by Python), then `explanation`.

Why backpropagation goes in topological order
---------------------------------------------

In b = a + a; c = b + b, the derivative of c with respect to a is 4. Both uses of b send it a cotangent of 1, both uses
of a receive what b has: the cotangent of b is 2, that of a is 2 + 2.

A walk that goes from c to its arguments at once, as a recursive `backward` does, reaches b by the first argument and
goes on to a with the 1 that b has by then. Then it reaches b again, which now has 2, and sends this on too: a has
1 + 1 + 2 + 2 = 6. A number may be passed on only when all of its uses have been. So each equation waits for those after
it that use its result. An order with this property is topological; the order in which the equations were recorded,
backwards, is one, as an equation uses only what was there before it.

>>> def f(a):
...     b = a + a
...     return b + b
>>> for step in explain_function(f, [3.0]).backward:
...     print(f"{step.equation}: ct({step.to}) += {step.sent:g}, now {step.total:g}")
c = add b b: ct(b) += 1, now 1
c = add b b: ct(b) += 1, now 2
b = add a a: ct(a) += 2, now 2
b = add a a: ct(a) += 2, now 4
"""

from funcgrad.explain.explanation import (
    Backward,
    Explanation,
    Forward,
    as_data,
    explain,
    explain_function,
    sections,
    show,
    write_svg,
)

__all__ = [
    "Backward",
    "Explanation",
    "Forward",
    "as_data",
    "explain",
    "explain_function",
    "sections",
    "show",
    "write_svg",
]
