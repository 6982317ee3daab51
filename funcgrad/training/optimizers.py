"""Optimizers and schedules by their Optax names, in explicit tables, and `make_optimizer` over both."""

from collections.abc import Callable
from functools import lru_cache, partial
from numbers import Real
from typing import Any

import jax
import optax
from jax import Array

# Left out are those that need more than gradients: noisy_sgd (a key), polyak_sgd and lbfgs (the loss as a function).
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
_DECAY_MASK = {  # those that decay weights themselves, and what they call the choice of which weights
    "adamaxw": "mask",
    "adamw": "mask",
    "adan": "mask",
    "lamb": "mask",
    "lars": "weight_decay_mask",
    "lion": "mask",
    "nadamw": "mask",
}
_CONSTANT_RATE = ("rprop", "sm3")  # those that take a number, and no schedule


def _piecewise(rate: float, steps: int) -> optax.Schedule:
    return optax.piecewise_constant_schedule(rate, {steps // 2: 0.1, steps * 3 // 4: 0.1})


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {  # (rate, steps) → the rate at a step
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
    "cosine_onecycle": lambda rate, steps: optax.cosine_onecycle_schedule(steps, rate),
    "exponential": lambda rate, steps: optax.exponential_decay(rate, steps, 1e-3),
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "linear_onecycle": lambda rate, steps: optax.linear_onecycle_schedule(steps, rate),
    "piecewise_constant": _piecewise,
    "polynomial": lambda rate, steps: optax.polynomial_schedule(rate, 0.0, 2, steps),
}


def make_schedule(
    name: str, learning_rate: float | Array, *, steps: int = 1, warmup_steps: int = 0
) -> Callable[[Any], Any]:
    """The learning rate at each step: `warmup_steps` of linear rise from 0, then a schedule by its Optax name.

    Of the `steps` in all, "cosine", "linear" and "polynomial" (of power 2) take what is left down to 0, "exponential"
    to a thousandth; "piecewise_constant" divides by 10 after 1/2 and 3/4 of it; "cosine_onecycle" and
    "linear_onecycle" rise before they fall, and `learning_rate` is their peak.

    Raises `ValueError` for an unknown name, or a warm-up that is not shorter than all steps.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule: {name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup_steps < steps and warmup_steps:
        raise ValueError(f"warmup_steps: needs 0 … {steps - 1}, fewer than all steps; got {warmup_steps}")
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
    """An Optax optimizer by name, its learning rate following a schedule over so many steps: see `make_schedule`.

    `weight_decay` is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101) and touches weights only, not biases;
    only the optimizers that have it take it. `clip_norm` scales gradients down whose norm, over all arrays together,
    is larger (Pascanu et al. 2013, arXiv:1211.5063).

    Raises `ValueError` for unknown names, a learning rate or norm that is not above 0, a negative weight decay, or one
    for an optimizer without it, and a schedule for an optimizer that takes none.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    given = isinstance(learning_rate, Real), isinstance(weight_decay, Real)  # else swept, and traced
    if given[0] and not (0 < learning_rate < float("inf")):
        raise ValueError(f"learning_rate: must be above 0 and finite, got {learning_rate}")
    if given[1] and not (0 <= weight_decay < float("inf")):
        raise ValueError(f"weight_decay: must be at least 0 and finite, got {weight_decay}")
    if isinstance(clip_norm, Real) and not (0 < clip_norm < float("inf")):
        raise ValueError(f"clip_norm: must be above 0 and finite, got {clip_norm}")
    decays = name in _DECAY_MASK
    if not decays and not (given[1] and weight_decay == 0):
        raise ValueError(f"weight_decay: {name!r} has none; use an L2 penalty, or one of {', '.join(_DECAY_MASK)}")
    if name in _CONSTANT_RATE and (schedule != "constant" or warmup_steps):
        raise ValueError(f"schedule: {name!r} takes a constant learning rate alone, without warm-up")
    traced = not all(x is None or isinstance(x, Real) for x in (learning_rate, weight_decay, clip_norm))
    made = _made.__wrapped__ if traced else _made
    optimizer: optax.GradientTransformation = made(
        name, learning_rate, schedule, steps, warmup_steps, weight_decay if decays else None, clip_norm
    )
    return optimizer


@lru_cache(maxsize=256, typed=True)  # programs are compiled for functions by their identity: equal settings share one
def _made(
    name: str, learning_rate: Any, schedule: str, steps: int, warmup_steps: int, weight_decay: Any, clip_norm: Any
) -> optax.GradientTransformation:
    rate: Any = learning_rate
    if name not in _CONSTANT_RATE:
        rate = make_schedule(schedule, learning_rate, steps=steps, warmup_steps=warmup_steps)
    options = {} if weight_decay is None else {"weight_decay": weight_decay, _DECAY_MASK[name]: _weights_only}
    optimizer = OPTIMIZERS[name](rate, **options)
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def _weights_only(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)
