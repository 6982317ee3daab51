"""A step is gradient descent, an epoch visits every example once, and the same key gives the same bits."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from funcgrad import models, training
from funcgrad.losses import make_loss
from funcgrad.models import Model
from funcgrad.training import fit, steps
from funcgrad.training.optimizers import make_optimizer
from funcgrad.training.steps import Batch, Examples, ModelState, Recipe, Span

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(37, 4)).astype(np.float32)
LABELS = (INPUTS[:, :2].sum(axis=1) > 0) + (INPUTS[:, 2] > 0.5).astype(np.int64)  # three classes, learnable
LINEAR, DROPPING = models.linear(3), models.mlp((8,), 3, dropout=0.5)
SOFTMAX, SVM = make_loss("softmax", l2=0.01), make_loss("svm")
SGD, ADAM = make_optimizer("sgd", 0.5), make_optimizer("adam", 0.01)


def noisy(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + 0.1 * jax.random.normal(key, x.shape)


RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"model": LINEAR, "loss": SOFTMAX, "optimizer": SGD},
    "mlp with dropout and augmentation": {"model": DROPPING, "loss": SVM, "optimizer": ADAM, "augment": noisy},
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def train(key: jax.Array = KEY, **changes: Any) -> training.Fit:
    options = {**RECIPES["linear"], "inputs": INPUTS, "labels": LABELS, "epochs": 3, "batch_size": 10} | changes
    return fit(key, **options)


def start(model: Model = LINEAR, optimizer: optax.GradientTransformation = SGD, shape: tuple = (4,)) -> ModelState:
    return jax.jit(partial(steps.init_state, model=model, optimizer=optimizer, shape=shape))(KEY)


def run_epoch(
    state: ModelState,
    key: Any,
    number: Any,
    inputs: Any,
    labels: Any,
    *,
    batch_size: int,
    augment: Any = None,
    **functions: Any,
) -> tuple[ModelState, tuple[Any, Any]]:
    """Epoch `number`, as `fit` runs it."""
    key_data = jax.random.key_data(key)
    order = steps.order_of(key_data, number, len(labels), batch_size)
    examples = Examples(jnp.asarray(inputs), jnp.asarray(labels), jnp.ones(len(labels)))
    return run_order(state, (key_data, number), examples, order, Recipe(augment=augment, **functions))


def run_order(
    state: ModelState, epoch_key: Any, examples: Examples, order: Any, recipe: Recipe
) -> tuple[ModelState, tuple[Any, Any]]:
    span = Span(*map(np.int32, (0, 0, len(order))))
    options: dict[str, Any] = {"recipe": recipe, "nonfinite": "stop"}
    state, sums = steps.run_steps(state, steps.zero_sums(), epoch_key, examples, order, span, **options)
    return state, sums.means


def copied(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def assert_same_bits(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def mean_loss(params: Any, inputs: Any, labels: Any) -> jax.Array:
    """What an epoch of full-batch training descends, written without funcgrad's models and losses."""
    scores = inputs @ params["weights"].T + jnp.expand_dims(params["bias"], 0)
    probabilities = jnp.exp(scores) / jnp.exp(scores).sum(axis=1, keepdims=True)
    return -jnp.log(probabilities[jnp.arange(len(labels)), labels]).mean() + 0.01 * jnp.sum(params["weights"] ** 2)


# Steps and epochs


@pytest.mark.exhaustive
def test_an_epoch_of_one_batch_is_one_step_of_gradient_descent() -> None:
    state = start()
    params = copied(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(mean_loss)(params, INPUTS, LABELS))
    after, (loss, accuracy) = run_epoch(
        state, KEY, np.int32(1), INPUTS, LABELS, batch_size=37, augment=None, **RECIPES["linear"]
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), after.params, expected)
    np.testing.assert_allclose(loss, mean_loss(params, INPUTS, LABELS), rtol=1e-5)
    predictions = (INPUTS @ params["weights"].T + params["bias"]).argmax(axis=1)
    np.testing.assert_allclose(accuracy, np.mean(predictions == LABELS), rtol=1e-6)


@pytest.mark.exhaustive
def test_an_epoch_is_one_step_a_batch_in_the_order_given() -> None:
    order = np.append(np.random.default_rng(3).permutation(37), [-1] * 3).astype(np.int32)
    params = copied(start().params)
    order = order.reshape(-1, 8)
    examples = Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.ones(len(INPUTS)))
    epoch_key = jax.random.key_data(KEY), np.int32(1)
    after, _ = run_order(start(), epoch_key, examples, order, Recipe(**RECIPES["linear"]))
    for rows in order:
        rows = rows[rows >= 0]  # the last batch has five examples, and its mean is over five
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(mean_loss)(params, INPUTS[rows], LABELS[rows]))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), after.params, params)


@pytest.mark.exhaustive
def test_an_example_of_weight_0_is_not_there() -> None:
    step = jax.jit(partial(steps.gradients, recipe=Recipe(**RECIPES["linear"])))
    weights = jnp.asarray(np.arange(37) % 3 != 0, float)
    kept = np.flatnonzero(weights)
    keys = jax.random.split(KEY, 37)
    labels = jnp.asarray(LABELS, jnp.int32)
    params = start().params
    weighted, sums = step(params, Batch(jnp.asarray(INPUTS), labels, weights, keys))
    fewer, sums_of_fewer = step(params, Batch(jnp.asarray(INPUTS[kept]), labels[kept], jnp.ones(len(kept)), keys[kept]))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), weighted, fewer)
    np.testing.assert_allclose(sums, sums_of_fewer, rtol=1e-5)


# A model with one parameter an example, which is its only score: training it shows which examples were visited when.
TALLY = Model(lambda key, shape: jnp.zeros(16), lambda params, x, *, key=None: jnp.expand_dims(params[x], 0))
ONCE = optax.stateless(lambda gradient, params: jnp.rint(gradient / jnp.max(gradient)))  # +1 for a visit
HALVING = optax.scale_by_schedule(lambda step: 0.5**step)  # the later the visit, the less it counts


def visits_loss(scores: jax.Array, label: jax.Array, params: jax.Array) -> jax.Array:
    """Its value is the label, its gradient is 1 for the visited example."""
    return scores[0] - jax.lax.stop_gradient(scores[0]) + label.astype(scores.dtype)


def visits(
    key: jax.Array, number: int, labels: np.ndarray, batch_size: int, optimizer: optax.GradientTransformation
) -> tuple[np.ndarray, float]:
    state = ModelState(jnp.zeros(16), optimizer.init(jnp.zeros(16)))
    functions = {"model": TALLY, "loss": visits_loss, "optimizer": optimizer, "augment": None}
    inputs = np.arange(len(labels), dtype=np.int32)
    after, (loss, _) = run_epoch(state, key, np.int32(number), inputs, labels, batch_size=batch_size, **functions)
    return np.asarray(after.params), float(loss)


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31 - 1))
@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (11, 4), (3, 5)])
def test_an_epoch_visits_every_example_exactly_once(count: int, batch_size: int, seed: int) -> None:
    labels = np.arange(count, dtype=np.int32) ** 2  # their mean shows an example left out, or visited twice
    visited, loss = visits(jax.random.key(seed), 1, labels, batch_size, ONCE)
    np.testing.assert_array_equal(visited, np.arange(16) < count)
    np.testing.assert_allclose(loss, labels.mean(), rtol=1e-6)


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31 - 1))
@pytest.mark.parametrize(("count", "batch_size"), [(12, 4), (11, 4), (1, 5)])
def test_a_shuffled_order_is_a_permutation_filled_up_to_whole_batches(count: int, batch_size: int, seed: int) -> None:
    order = np.asarray(steps.shuffled(jax.random.key(seed), count, batch_size))
    assert order.shape == (-(-count // batch_size), batch_size)
    order = order.ravel()
    np.testing.assert_array_equal(np.sort(order[:count]), np.arange(count))
    np.testing.assert_array_equal(order[count:], -1)


@pytest.mark.exhaustive
def test_no_two_epochs_have_the_same_order() -> None:
    places = [np.log2(visits(KEY, number, np.zeros(16, np.int32), 1, HALVING)[0]) for number in (1, 2)]
    for order in places:
        np.testing.assert_array_equal(np.sort(order), np.arange(-15, 1))
    assert (places[0] != places[1]).any()


@pytest.mark.exhaustive
def test_no_two_examples_or_epochs_draw_the_same() -> None:
    """The one score of each example is its parameter times what its keys draw, so that gradients are the draws."""

    def apply(params: jax.Array, x: jax.Array, *, key: jax.Array) -> jax.Array:
        return jnp.expand_dims(params[x.astype(int)] * (jax.random.uniform(key) + 10 * (x % 1)), 0)

    def augment(key: jax.Array, x: jax.Array) -> jax.Array:
        return x + 0.9 * jax.random.uniform(key)

    optimizer = optax.sgd(1.0)
    inputs = np.arange(13, dtype=np.float32)
    draws = []
    for number in (1, 2):
        state = ModelState(jnp.zeros(13), optimizer.init(jnp.zeros(13)))
        after, _ = run_epoch(
            state,
            KEY,
            np.int32(number),
            inputs,
            np.zeros(13, np.int32),
            batch_size=4,
            model=Model(lambda key, shape: jnp.zeros(13), apply),
            loss=lambda scores, label, params: scores[0],
            optimizer=optimizer,
            augment=augment,
        )
        draws.append(np.asarray(after.params))
    assert len(np.unique(np.round(np.concatenate(draws), 5))) == 26  # x + draw − x is exact to 10⁻⁶


@pytest.mark.exhaustive
def test_the_state_is_consumed_by_an_epoch() -> None:
    state = start(optimizer=ADAM)
    run_epoch(
        state, KEY, np.int32(1), INPUTS, LABELS, batch_size=10, model=LINEAR, loss=SOFTMAX, optimizer=ADAM, augment=None
    )
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.exhaustive
@every_recipe
def test_an_epoch_lowers_for_cpu_gpu_and_tpu(recipe: dict[str, Any]) -> None:
    functions = {"augment": None, **recipe}
    state = start(recipe["model"], recipe["optimizer"])

    def one_epoch(state: ModelState, key_data: jax.Array, number: Any, inputs: Any, labels: Any) -> Any:
        key = jax.random.wrap_key_data(key_data)
        return run_epoch(state, key, number, inputs, labels, batch_size=8, **functions)

    arguments = (state, jax.random.key_data(KEY), np.int32(1), INPUTS, LABELS.astype(np.int32))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    exported = jax.export.export(jax.jit(one_epoch), platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [(x.shape, x.dtype) for x in exported.out_avals[:-2]] == [(x.shape, x.dtype) for x in jax.tree.leaves(state)]


# fit


@pytest.mark.exhaustive
@every_recipe
def test_the_same_key_gives_the_same_bits_and_another_key_does_not(recipe: dict[str, Any]) -> None:
    first, again, other = (train(jax.random.key(seed), **recipe) for seed in (5, 5, 6))
    assert_same_bits(first.params, again.params)
    assert first.history == again.history
    for a, b in zip(*map(jax.tree.leaves, (first.params, other.params)), strict=True):
        assert not np.array_equal(a, b)


PROGRAM = """
import jax, numpy as np
from funcgrad import losses, models, training
rng = np.random.default_rng(0)
fitted = training.fit(
    jax.random.key(0), models.mlp((64,), 5), rng.normal(size=(500, 32)).astype(np.float32),
    rng.integers(0, 5, 500), loss=losses.make_loss("softmax"), optimizer=training.make_optimizer("adam", 0.01),
    epochs=2, batch_size=64,
)
bits = b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(fitted.params))
"""


@pytest.mark.exhaustive
def test_two_processes_with_the_same_key_give_the_same_bits() -> None:
    code = PROGRAM + "import hashlib; print(hashlib.sha256(bits).hexdigest())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    here: dict[str, Any] = {}
    exec(PROGRAM, here)
    assert hashlib.sha256(here["bits"]).hexdigest() == other


@pytest.mark.exhaustive
def test_history_has_one_entry_an_epoch_and_on_epoch_is_told_each() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    fitted = train(on_epoch=lambda number, measured: told.append((number, measured)))
    assert set(fitted.history) == {"train_loss", "train_accuracy"}
    assert fitted.epochs_done == 3
    assert fitted.stopped_by == "epochs"
    assert [number for number, _ in told] == [1, 2, 3]
    for name, values in fitted.history.items():
        assert values == [measured[name] for _, measured in told]
    assert_same_bits(fitted.best_params, fitted.params)  # nothing was validated


@pytest.mark.exhaustive
@every_recipe
def test_validation_measures_the_parameters_after_the_epoch_and_changes_none(recipe: dict[str, Any]) -> None:
    validation = INPUTS[::-1][:11] + 0.1, LABELS[::-1][:11]
    fitted = train(**recipe, validation=validation)
    assert_same_bits(fitted.params, train(**recipe).params)
    assert {name: len(values) for name, values in fitted.history.items()} == {
        "train_loss": 3,
        "train_accuracy": 3,
        "validation_loss": 3,
        "validation_accuracy": 3,
    }
    scores = training.predict(recipe["model"], fitted.params, validation[0])
    losses = jax.vmap(recipe["loss"], (0, 0, None))(jnp.asarray(scores), jnp.asarray(validation[1]), fitted.params)
    np.testing.assert_allclose(fitted.history["validation_loss"][-1], np.mean(losses), rtol=1e-5)
    accuracy = np.mean(scores.argmax(axis=1) == validation[1])
    np.testing.assert_allclose(fitted.history["validation_accuracy"][-1], accuracy, rtol=1e-6)


@pytest.mark.exhaustive
def test_the_best_parameters_are_those_of_the_first_best_validation_epoch() -> None:
    """A model whose one parameter counts the steps, and that is right about so many of ten after each."""
    right = (0, 3, 8, 5, 8, 1)

    def apply(params: jax.Array, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        return jnp.where(
            x < jnp.array(right)[jnp.rint(params).astype(int)], jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
        )

    told = train(
        model=Model(lambda key, shape: jnp.zeros(()), apply),
        inputs=np.arange(10),
        labels=np.ones(10, int),
        loss=lambda scores, label, params: -params,
        optimizer=make_optimizer("sgd", 1.0),
        epochs=5,
        validation=(np.arange(10), np.ones(10, int)),
    )
    np.testing.assert_allclose(told.history["validation_accuracy"], np.array(right[1:]) / 10, rtol=1e-6)
    assert round(float(told.best_params)) == 2
    assert round(float(told.params)) == 5


def test_what_a_run_draws_does_not_depend_on_how_long_it_runs() -> None:
    assert train(epochs=2).history["train_loss"] == train(epochs=4).history["train_loss"][:2]


@pytest.mark.exhaustive
def test_a_training_that_diverges_says_where_and_keeps_the_best_parameters() -> None:
    exploding = {"loss": make_loss("softmax", l2=1.0), "optimizer": make_optimizer("sgd", 1e4)}
    fitted = train(epochs=50, validation=(INPUTS, LABELS), **exploding)
    assert fitted.stopped_by == "diverged"
    assert 0 < fitted.epochs_done < 50
    assert {len(values) for values in fitted.history.values()} == {fitted.epochs_done}
    assert all(np.isfinite(values).all() for values in fitted.history.values())
    assert fitted.notes == (f"epoch {fitted.epochs_done + 1}, step 2: the loss is not finite",)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(fitted.best_params))
    unvalidated = train(epochs=50, **exploding)
    assert (unvalidated.stopped_by, unvalidated.epochs_done) == ("diverged", fitted.epochs_done)


def faulty(scores: jax.Array, label: jax.Array, params: Any, name: str = "bias") -> jax.Array:
    """Finite, with a gradient that is not, for an example of label 2: of √(0·x) by the last number x of an array."""
    bad = jnp.sqrt(jnp.where(label == 2, params[name].ravel()[-1] * 0, 1.0))
    return SOFTMAX(scores, label, params) + bad


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["bias", "weights"])
def test_a_gradient_that_is_not_finite_names_its_array_and_step(name: str) -> None:
    labels = np.zeros(37, int)
    labels[5] = 2
    fitted = train(loss=partial(faulty, name=name), labels=labels, epochs=1)
    order = np.asarray(steps.order_of(jax.random.key_data(jax.random.split(KEY)[1]), 1, 37, 10))
    (step,), _ = np.nonzero(order == 5)
    assert fitted.stopped_by == "diverged"
    assert fitted.notes == (f"epoch 1, step {step + 1}: the gradient of {name} is not finite",)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(), (5,), (40, 70), (3, 4, 5)])
def test_a_single_number_that_is_not_finite_is_found_and_the_largest_are_finite(shape: tuple[int, ...]) -> None:
    first_of = jax.jit(lambda x: steps.first_nonfinite(jnp.zeros(()), {"x": x}))
    largest = np.full(shape, np.finfo(np.float32).max)
    assert first_of(largest) == first_of(-largest) == -1
    for bad in (np.nan, np.inf, -np.inf):
        for place in {0, largest.size // 2, largest.size - 1}:
            x = largest.copy()
            x.flat[place] = bad
            assert first_of(x) == 1


@pytest.mark.exhaustive
def test_steps_that_are_not_finite_can_be_left_out() -> None:
    labels = np.zeros(37, int)
    labels[5] = 2
    fitted = train(loss=faulty, labels=labels, epochs=2, skip_nonfinite=True)
    assert fitted.stopped_by == "epochs"
    assert len(fitted.notes) == 2
    assert fitted.notes[0].endswith("the gradient of bias is not finite; skipped 1 of the 4 steps of this epoch")
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(fitted.params))
    assert np.isfinite(fitted.history["train_loss"]).all()


@pytest.mark.exhaustive
def test_an_update_that_is_not_finite_is_noticed_after_the_last_step() -> None:
    infinite = optax.stateless(lambda gradient, params: jax.tree.map(lambda g: g + jnp.inf, gradient))
    fitted = train(optimizer=infinite, epochs=1, batch_size=37)
    assert fitted.stopped_by == "diverged"
    assert fitted.notes == ("epoch 1, after its last step: bias is not finite",)


@pytest.mark.exhaustive
def test_an_optimizer_may_keep_the_parameters_it_began_with() -> None:
    keeping = optax.GradientTransformation(
        lambda params: params, lambda g, kept, params: (jax.tree.map(jnp.negative, g), kept)
    )
    assert_same_bits(train(optimizer=keeping).params, train(optimizer=optax.sgd(1.0)).params)


@pytest.mark.exhaustive
def test_a_batch_larger_than_the_data_is_all_the_data() -> None:
    assert_same_bits(train(batch_size=1000).params, train(batch_size=37).params)


@pytest.mark.exhaustive
def test_augmentation_touches_what_is_trained_on_and_not_what_is_validated() -> None:
    def erased(key: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)

    kept = {"loss": make_loss("softmax"), "epochs": 2}
    fitted = train(augment=erased, validation=(INPUTS, LABELS), **kept)
    on_zeros = train(inputs=np.zeros_like(INPUTS), **kept).params
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), fitted.params, on_zeros)
    scores = training.predict(LINEAR, fitted.params, INPUTS)
    accuracy = np.mean(scores.argmax(axis=1) == LABELS)
    np.testing.assert_allclose(fitted.history["validation_accuracy"][-1], accuracy, rtol=1e-6)


@pytest.mark.exhaustive
def test_training_in_float64_stays_in_float64() -> None:
    with jax.enable_x64(True):
        fitted = train(jax.random.key(0), inputs=INPUTS.astype(np.float64), validation=(INPUTS, LABELS))
    assert {x.dtype for x in jax.tree.leaves(fitted.params)} == {np.dtype(np.float64)}


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch_size", [1, 7, 37, 100])
def test_predictions_in_batches_are_those_of_all_at_once(batch_size: int) -> None:
    params = DROPPING.init(KEY, (4,))
    expected = jax.vmap(DROPPING.apply, (None, 0))(params, INPUTS)
    scores = training.predict(DROPPING, params, INPUTS, batch_size=batch_size)
    assert isinstance(scores, np.ndarray)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loss", [make_loss("softmax"), SVM], ids=["softmax", "svm"])
def test_what_a_line_separates_is_learned_without_error(loss: Callable[..., jax.Array]) -> None:
    """The perceptron's promise (Novikoff 1962), here for the two convex losses of the course."""
    normal = np.array([0.6, -0.8], np.float32)
    inputs = RNG.normal(size=(400, 2)).astype(np.float32)
    inputs = inputs[np.abs(inputs @ normal + 0.3) > 0.2]
    labels = (inputs @ normal + 0.3 > 0).astype(np.int32)
    assert 0 < labels.mean() < 1
    model = models.linear(2)
    optimizer = make_optimizer("adam", 0.05)
    fitted = fit(KEY, model, inputs, labels, loss=loss, optimizer=optimizer, epochs=60, batch_size=32)
    assert (training.predict(model, fitted.params, inputs).argmax(axis=1) == labels).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("model", "least"), [(models.linear(10), 0.88), (models.mlp((64,), 10), 0.90)], ids=["linear", "mlp"]
)
def test_digits_are_recognized(model: Model, least: float) -> None:
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    model = models.standardized(model, *models.mean_and_deviation(images[:1437].reshape(-1, 1)))
    images = images.reshape(-1, 64, 1)
    loss = make_loss("softmax", l2=1e-3)
    optimizer = make_optimizer("adam", 1e-2, schedule="cosine", steps=20 * 23)
    fitted = fit(KEY, model, images[:1437], labels[:1437], loss=loss, optimizer=optimizer, epochs=20, batch_size=64)
    scores = training.predict(model, fitted.params, images[1437:])
    assert np.mean(scores.argmax(axis=1) == labels[1437:]) >= least


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"labels": LABELS[:-1]}, r"labels: needs one for each of the 37 inputs, got shape \(36,\)"),
        ({"labels": LABELS[:, None]}, r"labels: needs one for each of the 37 inputs, got shape \(37, 1\)"),
        ({"inputs": INPUTS[:0], "labels": LABELS[:0]}, "labels: needs one for each of the 0 inputs"),
        ({"labels": LABELS.astype(np.float32)}, "labels: needs integers, got float32"),
        ({"labels": LABELS + 1}, "labels: range from 1 to 3, the model has classes 0 … 2"),
        ({"labels": LABELS - 1}, "labels: range from -1 to 1, the model has classes 0 … 2"),
        ({"labels": np.where(LABELS == 2, 2**32, LABELS)}, "labels: range from 0 to 4294967296"),
        ({"validation": INPUTS}, r"validation: needs a pair \(inputs, labels\), got"),
        ({"validation": (INPUTS[:, :1], LABELS)}, r"validation inputs: have shape \(1.*\), the inputs"),
        ({"validation": (INPUTS, LABELS[:-1])}, "validation labels: needs one for each of the 37 inputs"),
        ({"validation": (INPUTS, LABELS + 1)}, "validation labels: range from 1 to 3, the model has classes 0 … 2"),
    ],
)
def test_a_wrong_argument_of_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**changes)
