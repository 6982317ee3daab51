"""An expression as a user types it, step by step: value, gradient, Hessian, graph, backpropagation, compiled source.

Read `parser` first (an expression becomes a function; nothing is evaluated by Python), then `explanation`.
"""

from funcgrad.explain.explanation import Backward, Explanation, Forward, as_data, explain, sections, show, write_svg

__all__ = ["Backward", "Explanation", "Forward", "as_data", "explain", "sections", "show", "write_svg"]
