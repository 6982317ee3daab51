"""What this package raises and warns of itself."""

import sys
import warnings


class EscapedError(RuntimeError):
    """A traced float was used after the transformation that made it had returned."""

    def __init__(
        self,
        message: str = "a traced float escaped: it was stored (in a global, a list, an attribute) and used after its "
        "transformation had returned. Return it from the function instead, with has_aux=True if it is not a result",
    ) -> None:
        super().__init__(message)


def not_linear(name: str, why: str) -> TypeError:
    """The error of a custom_jvp rule that is no linear function of its tangents."""
    return TypeError(
        f"the jvp rule of {name} is not linear in its tangent: {why}. Reverse mode, linearize and jacfwd need its "
        f"transpose; jvp takes any rule"
    )


def warn(message: str) -> None:
    """A RuntimeWarning at the line of the user's code that called into this package."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").startswith(__package__) or frame.f_code.co_filename.startswith("<compiled")
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
