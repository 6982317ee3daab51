"""Every optimizer trains, decay touches weights alone, schedules go where they say."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcgrad import models
from funcgrad.losses import make_loss
from funcgrad.training import steps
from funcgrad.training.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from funcgrad.training.steps import Batch, Examples, ModelState, Recipe, Span, gradients, update

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(37, 4)).astype(np.float32)
LABELS = (INPUTS[:, :2].sum(axis=1) > 0) + (INPUTS[:, 2] > 0.5).astype(np.int32)  # three classes, learnable
LINEAR = models.linear(3)
SOFTMAX = make_loss("softmax", l2=0.01)


def mean_loss(params: Any) -> jax.Array:
    losses = jax.vmap(lambda x, label: SOFTMAX(LINEAR.apply(params, x), label, params))(INPUTS, LABELS)
    return jnp.mean(losses)


DECAYING = ("adamaxw", "adamw", "adan", "lamb", "lars", "lion", "nadamw")


@cache
def an_epoch_with_every_optimizer() -> dict[str, Any]:
    """For each: the parameters before and after, and the loss; in one program, since compiling is what takes time."""

    @jax.jit
    def all_of_them(key: jax.Array, inputs: jax.Array, labels: jax.Array) -> dict[str, Any]:
        order, outcomes = steps.shuffled(key, len(labels), 10), {}
        for name in OPTIMIZERS:
            schedule = "constant" if name in ("rprop", "sm3") else "cosine"
            optimizer = make_optimizer(name, 0.01, schedule=schedule, steps=4)
            state = steps.init_state(key, LINEAR, optimizer, (4,))
            examples = Examples(inputs, labels, jnp.ones(len(labels)))
            recipe, span = Recipe(LINEAR, SOFTMAX, optimizer), Span(0, 0, len(order))
            after, sums = steps.many_steps(state, steps.zero_sums(), key, examples, order, span, recipe, nonfinite=None)
            outcomes[name] = state.params, after.params, sums.means[0]
        return outcomes

    return all_of_them(KEY, INPUTS, LABELS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_an_epoch(name: str) -> None:
    before, after, loss = an_epoch_with_every_optimizer()[name]
    assert np.isfinite(loss)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))
    assert not np.array_equal(after["weights"], before["weights"])
    assert mean_loss(after) < mean_loss(before)


def after_steps_without_gradient(optimizer: optax.GradientTransformation, params: Any, steps: int = 1) -> Any:
    batch = Batch(jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), jnp.ones(2), jax.random.split(KEY, 2))
    recipe = Recipe(LINEAR, lambda scores, label, params: 0 * scores[0], optimizer)

    def step(_: int, state: ModelState) -> ModelState:
        return update(state, gradients(state.params, batch, recipe)[0], optimizer)

    state = ModelState(params, optimizer.init(params))
    return jax.jit(lambda state: jax.lax.fori_loop(0, steps, step, state))(state).params


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", DECAYING)
def test_weight_decay_leaves_biases_alone(name: str) -> None:
    params = {"weights": jnp.full((3, 3), 2.0), "bias": jnp.full(3, 2.0)}
    decayed = after_steps_without_gradient(make_optimizer(name, 0.1, weight_decay=0.5), params)
    np.testing.assert_array_equal(decayed["bias"], params["bias"])
    assert (np.abs(decayed["weights"]) < 2).all()
    kept = after_steps_without_gradient(make_optimizer(name, 0.1), params)
    np.testing.assert_array_equal(kept["weights"], params["weights"])  # none unless it is asked for


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    params = {"weights": jnp.full((3, 3), 2.0), "bias": jnp.zeros(3)}
    decayed = after_steps_without_gradient(make_optimizer("adamw", 0.1, weight_decay=0.5), params, steps=4)
    np.testing.assert_allclose(decayed["weights"], 2.0 * (1 - 0.1 * 0.5) ** 4, rtol=1e-5)


def rates(steps: int, **options: Any) -> np.ndarray:
    """The learning rates of the steps, and of one beyond the last, read off plain gradient descent."""
    optimizer = make_optimizer("sgd", 0.3, steps=steps, **options)

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        update, state = optimizer.update(jnp.ones(()), state)
        return state, -update

    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.lax.scan(step, optimizer.init(jnp.ones(())), None, steps + 1)[1])


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if "onecycle" not in name])
def test_every_schedule_rises_through_its_warmup_and_ends_where_it_says(schedule: str, warmup: int) -> None:
    steps = 20
    past = np.arange(steps + 1 - warmup) / (steps - warmup)
    shape = {
        "constant": np.ones_like(past),
        "cosine": (1 + np.cos(np.pi * past)) / 2,
        "exponential": 1e-3**past,
        "linear": 1 - past,
        "piecewise_constant": np.where(
            past * (steps - warmup) < (steps - warmup) // 2,
            1,
            np.where(past * (steps - warmup) < (steps - warmup) * 3 // 4, 0.1, 0.01),
        ),
        "polynomial": (1 - past) ** 2,
    }[schedule]
    expected = 0.3 * np.concatenate([np.arange(warmup) / 5, shape])
    np.testing.assert_allclose(rates(steps, schedule=schedule, warmup_steps=warmup), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.exhaustive
def test_a_learning_rate_can_be_swept() -> None:
    def one_step(rate: jax.Array) -> jax.Array:
        optimizer = make_optimizer("sgd", rate, schedule="linear", steps=10)
        return optimizer.update(jnp.ones(()), optimizer.init(jnp.ones(())))[0]

    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(jax.vmap(one_step)(jnp.array([0.1, 2.0])), [-0.1, -2.0], rtol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("schedule", ["cosine_onecycle", "linear_onecycle"])
def test_a_cycle_rises_to_its_rate_and_falls(schedule: str) -> None:
    with jax.numpy_dtype_promotion("standard"):  # which is Optax's
        rate = np.asarray([make_schedule(schedule, 0.3, steps=20)(step) for step in range(21)])
    peak = int(rate.argmax())
    np.testing.assert_allclose(rate[peak], 0.3, rtol=1e-6)
    assert 3 <= peak <= 8
    assert (np.diff(rate[: peak + 1]) > 0).all()
    assert (np.diff(rate[peak:]) < 0).all()
    assert rate[-1] < 1e-4


@pytest.mark.exhaustive
def test_gradients_are_clipped_by_their_norm_over_all_arrays() -> None:
    optimizer = make_optimizer("sgd", 1.0, clip_norm=2.0)
    long, short = {"a": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])}, {"a": jnp.zeros((1, 2)), "b": jnp.array([1.5])}
    for gradient, scale in ((long, 2 / 5), (short, 1.0)):
        updates, _ = optimizer.update(gradient, optimizer.init(gradient))
        jax.tree.map(lambda u, g, s=scale: np.testing.assert_allclose(u, -s * g, rtol=1e-6), updates, gradient)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sdg"}, f"optimizer: 'sdg' is unknown; choose one of {', '.join(OPTIMIZERS)}"),
        ({"schedule": "step"}, f"schedule: 'step' is unknown; choose one of {', '.join(SCHEDULES)}"),
        ({"learning_rate": -0.1}, "learning_rate: must be above 0 and finite, got -0.1"),
        ({"learning_rate": 0}, "learning_rate: must be above 0 and finite, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: must be above 0 and finite, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate: must be above 0 and finite, got inf"),
        ({"weight_decay": -1.0}, "weight_decay: must be at least 0 and finite, got -1.0"),
        ({"name": "sgd", "weight_decay": 0.1}, f"weight_decay: 'sgd' has none; .* one of {', '.join(DECAYING)}"),
        ({"steps": 10, "warmup_steps": 10}, "warmup_steps: needs 0 … 9, fewer than the total; got 10"),
        ({"name": "rprop", "schedule": "cosine"}, "schedule: 'rprop' supports only a constant learning rate"),
        ({"clip_norm": 0.0}, "clip_norm: must be above 0 and finite, got 0.0"),
        ({"steps": 10, "warmup_steps": -1}, "warmup_steps: needs 0 … 9, fewer than the total; got -1"),
    ],
)
def test_a_wrong_argument_of_make_optimizer_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_optimizer(**{"name": "adamw", "learning_rate": 0.1} | arguments)
