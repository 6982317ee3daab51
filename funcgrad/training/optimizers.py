"""Optimizers and learning-rate schedules by their Optax names, and `make_optimizer`, which combines them."""

from collections.abc import Callable
from functools import lru_cache, partial
from numbers import Real
from typing import Any

import jax
import optax
from jax import Array

# Without those that need more than gradients: noisy_sgd (a key), polyak_sgd and lbfgs (the loss as a function).
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adafactor": optax.adafactor,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "novograd": optax.novograd,
    "optimistic_gradient_descent": optax.optimistic_gradient_descent,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "rprop": optax.rprop,
    "sgd": optax.sgd,
    "sign_sgd": optax.sign_sgd,
    "sm3": optax.sm3,
    "yogi": optax.yogi,
}
# Optimizers with weight decay, and the name of their argument that masks the parameters it applies to.
_DECAY_MASK = dict.fromkeys(("adamaxw", "adamw", "adan", "lamb", "lars", "lion", "nadamw"), "mask") | {
    "lars": "weight_decay_mask"
}
_CONSTANT_RATE = ("rprop", "sm3")  # whose learning rate must be a number


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {  # (rate, steps) → the rate at a step
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
    "cosine_onecycle": lambda rate, steps: optax.cosine_onecycle_schedule(steps, rate),
    "exponential": lambda rate, steps: optax.exponential_decay(rate, steps, 1e-3),
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "linear_onecycle": lambda rate, steps: optax.linear_onecycle_schedule(steps, rate),
    "piecewise_constant": lambda rate, steps: optax.piecewise_constant_schedule(
        rate, {steps // 2: 0.1, steps * 3 // 4: 0.1}
    ),
    "polynomial": lambda rate, steps: optax.polynomial_schedule(rate, 0.0, 2, steps),
}


def make_schedule(
    name: str, learning_rate: float | Array, *, steps: int = 1, warmup_steps: int = 0
) -> Callable[[Any], Any]:
    """The learning rate at each step: a linear warm-up from 0 over `warmup_steps`, then a schedule by its Optax name.

    Over the remaining steps, "cosine", "linear" and "polynomial" (of power 2) decay to 0, "exponential" to a thousandth
    of the rate; "piecewise_constant" divides it by 10 after one half and after three quarters of them;
    "cosine_onecycle" and "linear_onecycle" rise before they decay, and `learning_rate` is their peak.

    Args:
      steps: in total, warm-up included.

    Raises `ValueError` for an unknown name, or a warm-up that is not shorter than the total.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule: {name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup_steps < steps and warmup_steps:
        raise ValueError(f"warmup_steps: needs 0 … {steps - 1}, fewer than the total; got {warmup_steps}")
    rate = SCHEDULES[name](learning_rate, steps - warmup_steps)
    if warmup_steps:
        rate = optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), rate], [warmup_steps])
    return rate


def make_optimizer(
    name: str,
    learning_rate: float | Array,
    *,
    schedule: str = "constant",
    steps: int = 1,
    warmup_steps: int = 0,
    weight_decay: float | Array = 0.0,
    clip_norm: float | Array | None = None,
) -> optax.GradientTransformation:
    """An Optax optimizer by name, with a learning rate that follows a schedule: see `make_schedule`.

    `weight_decay` is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101) and applies to weights, not to biases;
    only some optimizers support it. `clip_norm` rescales gradients whose global norm is larger (Pascanu et al. 2013,
    arXiv:1211.5063).

    The learning rate, weight decay and norm may be traced, so that `jax.vmap` sweeps them; their range is then up to
    the caller.

    Raises `ValueError` for unknown names, a learning rate or norm that is not above 0, a negative weight decay, or one
    for an optimizer without weight decay, and a schedule for an optimizer that supports none.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    numbers: dict[str, Any] = {"learning_rate": learning_rate, "weight_decay": weight_decay, "clip_norm": clip_norm}
    known: dict[str, Any] = {argument: x for argument, x in numbers.items() if isinstance(x, Real)}
    for argument, x in known.items():
        may_be_zero = argument == "weight_decay"
        if not (0 < x < float("inf") or (x == 0 and may_be_zero)):
            bound = "at least" if may_be_zero else "above"
            raise ValueError(f"{argument}: must be {bound} 0 and finite, got {x}")
    if name not in _DECAY_MASK and known.get("weight_decay") != 0:
        raise ValueError(f"weight_decay: {name!r} has none; use an L2 penalty, or one of {', '.join(_DECAY_MASK)}")
    if name in _CONSTANT_RATE and (schedule != "constant" or warmup_steps):
        raise ValueError(f"schedule: {name!r} supports only a constant learning rate, without warm-up")
    traced = any(x is not None and argument not in known for argument, x in numbers.items())
    made = _made.__wrapped__ if traced else _made
    optimizer: optax.GradientTransformation = made(name, schedule, steps, warmup_steps, **numbers)
    return optimizer


@lru_cache(maxsize=256, typed=True)  # compiled programs are keyed by function identity: equal settings share one
def _made(
    name: str, schedule: str, steps: int, warmup_steps: int, *, learning_rate: Any, weight_decay: Any, clip_norm: Any
) -> optax.GradientTransformation:
    rate: Any = learning_rate
    if name not in _CONSTANT_RATE:
        rate = make_schedule(schedule, learning_rate, steps=steps, warmup_steps=warmup_steps)
    mask = _DECAY_MASK.get(name)
    options = {"weight_decay": weight_decay, mask: _weights_only} if mask else {}
    optimizer = OPTIMIZERS[name](rate, **options)
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def _weights_only(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
