"""Models are functions of one example; their parameters are plain trees that start as the papers say."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad.models import (
    ACTIVATIONS,
    INITIALIZATIONS,
    Model,
    in_dtype,
    linear,
    mean_and_deviation,
    mlp,
    standardized,
)

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)
MODELS = {
    "linear": linear(7),
    "mlp": mlp((6,), 7),
    "deep mlp": mlp([9, 6, 5], 7, activation="gelu", dropout=0.5, layer_norm=True),
    "residual": mlp([8, 8], 7, activation="gelu", dropout=0.5, residual=True),
}


@cache
def initial(name: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Compiled whole and once: draw by draw it would take seconds."""
    return jax.jit(lambda key: MODELS[name].init(key, shape))(jax.random.key(seed))


every_model = pytest.mark.parametrize("name", MODELS)

PLAIN_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def wide(params: dict) -> dict:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def plain_scores(params: dict, x: np.ndarray, activation: str, layer_norm: bool = False) -> np.ndarray:
    """The multilayer perceptron in NumPy, float64, for a batch (N, D)."""
    for layer in params["hidden"]:
        x = x @ layer["weights"].T + layer["bias"]
        x = normalized(x, layer) if layer_norm else x
        x = PLAIN_ACTIVATIONS[activation](x)
    return x @ params["output"]["weights"].T + params["output"]["bias"]


def normalized(x: np.ndarray, layer: dict) -> np.ndarray:
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return x * layer["scale"] + layer["offset"]


def plain_residual_scores(params: dict, x: np.ndarray, activation: str) -> np.ndarray:
    """Bottleneck blocks in NumPy, float64, for a batch (N, D)."""

    def dense(layer: dict, x: np.ndarray) -> np.ndarray:
        return x @ layer["weights"].T + layer["bias"]

    x = dense(params["embedding"], x)
    for block in params["blocks"]:
        wide = PLAIN_ACTIVATIONS[activation](dense(block["widen"], normalized(x, block)))
        x = x + dense(block["narrow"], wide)
    return dense(params["output"], x)


def random_params(model: Model, shape: tuple[int, ...], seed: int = 1) -> Any:
    """Float32 numbers that no initialisation would draw: biases are not 0, scales not 1."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(KEY, shape))
    return jax.tree.map(lambda x: rng.normal(0.1, 0.5, x.shape).astype(np.float32), shapes)


def test_linear_parameters_have_the_shapes_of_a_matrix_and_a_bias() -> None:
    params = initial("linear", (5, 4, 3))
    assert jax.tree.map(jnp.shape, params) == {"weights": (7, 60), "bias": (7,)}


def test_mlp_parameters_chain_from_the_example_to_the_classes() -> None:
    params = jax.eval_shape(lambda: mlp((9, 6), 7, layer_norm=True).init(KEY, (5, 4, 3)))
    assert jax.tree.map(lambda x: x.shape, params) == {
        "hidden": [
            {"weights": (9, 60), "bias": (9,), "scale": (9,), "offset": (9,)},
            {"weights": (6, 9), "bias": (6,), "scale": (6,), "offset": (6,)},
        ],
        "output": {"weights": (7, 6), "bias": (7,)},
    }


@pytest.mark.exhaustive
def test_weights_start_with_the_deviations_of_the_course_and_of_he() -> None:
    def deviation(x: jax.Array) -> float:
        return float(np.std(np.asarray(x, np.float64)))

    assert deviation(linear(100).init(KEY, (300,))["weights"]) == pytest.approx(1e-4, rel=0.03)
    params = mlp((200, 300), 100).init(KEY, (150,))
    assert deviation(params["hidden"][0]["weights"]) == pytest.approx((2 / 150) ** 0.5, rel=0.03)
    assert deviation(params["hidden"][1]["weights"]) == pytest.approx((2 / 200) ** 0.5, rel=0.03)
    assert deviation(params["output"]["weights"]) == pytest.approx((1 / 300) ** 0.5, rel=0.03)


@every_model
def test_biases_and_offsets_start_at_zero_and_scales_at_one(name: str) -> None:
    start = {"bias": 0, "offset": 0, "scale": 1}
    for path, x in jax.tree.leaves_with_path(initial(name, (5, 4, 3))):
        if path[-1].key != "weights":
            np.testing.assert_array_equal(x, np.full(x.shape, start[path[-1].key]))


def test_no_two_layers_start_alike() -> None:
    params = mlp((6, 6), 6).init(KEY, (6,))
    first, second = (np.asarray(layer["weights"]) for layer in params["hidden"])
    output = np.asarray(params["output"]["weights"]) * 2**0.5  # to the deviation of the others
    for a, b in ((first, second), (first, output), (second, output)):
        assert not np.isclose(a, b).any()


@pytest.mark.exhaustive
@every_model
def test_the_same_key_starts_with_the_same_bits_and_another_key_does_not(name: str) -> None:
    init = jax.jit(lambda key: MODELS[name].init(key, (5, 4, 3)))
    one, same, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        assert a.ndim == 1 or np.mean(a == b) < 0.01


@every_model
def test_parameters_are_dicts_and_lists_of_float32_arrays(name: str) -> None:
    def check(tree: object) -> None:
        if isinstance(tree, (dict, list)):
            for child in tree.values() if isinstance(tree, dict) else tree:
                check(child)
        else:
            assert isinstance(tree, jax.Array)
            assert tree.dtype == jnp.float32

    check(initial(name, (5, 4, 3)))


@pytest.mark.exhaustive
def test_parameters_are_float64_for_a_caller_in_float64() -> None:
    with jax.enable_x64(True):
        model = standardized(mlp((3,), 2), np.zeros(4), np.ones(4))
        params = model.init(jax.random.key(0), (4,))
        assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float64)}
        assert model.apply(params, jnp.ones(4)).dtype == np.float64


@pytest.mark.exhaustive
@every_model
def test_a_batch_of_scores_is_the_scores_of_its_examples(name: str) -> None:
    apply, params = jax.jit(MODELS[name].apply), initial(name, (5, 4, 3))
    batch = jax.vmap(apply, (None, 0))(params, IMAGES)
    assert batch.shape == (30, 7)
    for x, scores in zip(IMAGES[:3], batch, strict=False):
        one = apply(params, x)
        assert one.shape == (7,)
        np.testing.assert_allclose(one, scores, rtol=1e-4, atol=1e-4)


def test_linear_scores_are_a_matrix_product_and_a_bias() -> None:
    params = jax.tree.map(lambda x: x + 0.5, initial("linear", (5, 4, 3)))
    scores = jax.vmap(linear(7).apply, (None, 0))(params, IMAGES)
    expected = IMAGES.reshape(30, -1) @ wide(params)["weights"].T + wide(params)["bias"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_scores_are_layers_and_activations_in_turn(activation: str, layer_norm: bool) -> None:
    model = mlp((6, 5), 4, activation=activation, layer_norm=layer_norm)
    params = random_params(model, (8,))
    x = np.random.default_rng(2).normal(0, 2, (9, 8)).astype(np.float32)
    scores = jax.jit(jax.vmap(model.apply, (None, 0)))(params, x)
    np.testing.assert_allclose(scores, plain_scores(wide(params), x, activation, layer_norm), rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_residual_blocks_are_the_formula_of_scaling_mlps(activation: str) -> None:
    model = mlp((6, 6, 6), 5, activation=activation, residual=True)
    params = random_params(model, (8,))
    x = np.random.default_rng(2).normal(0, 2, (9, 8)).astype(np.float32)
    scores = jax.jit(jax.vmap(model.apply, (None, 0)))(params, x)
    np.testing.assert_allclose(scores, plain_residual_scores(wide(params), x, activation), rtol=1e-4, atol=1e-4)


def test_residual_parameters_are_an_embedding_blocks_and_an_output() -> None:
    params = jax.eval_shape(lambda: mlp((6, 6), 7, residual=True).init(KEY, (5, 4, 3)))
    block = {
        "scale": (6,),
        "offset": (6,),
        "widen": {"weights": (24, 6), "bias": (24,)},
        "narrow": {"weights": (6, 24), "bias": (6,)},
    }
    assert jax.tree.map(lambda x: x.shape, params) == {
        "embedding": {"weights": (6, 60), "bias": (6,)},
        "blocks": [block, block],
        "output": {"weights": (7, 6), "bias": (7,)},
    }


@pytest.mark.exhaustive
def test_residual_dropout_falls_on_the_widened_units_alone_and_differently_in_each_block() -> None:
    model = mlp((2, 2), 8, dropout=0.5, residual=True)
    narrow = {"weights": jnp.zeros((2, 8)), "bias": jnp.zeros(2)}
    block = {"scale": jnp.zeros(2), "offset": jnp.ones(2), "narrow": narrow}
    block |= {"widen": {"weights": jnp.ones((8, 2)), "bias": jnp.zeros(8)}}
    params = {"embedding": {"weights": jnp.eye(2), "bias": jnp.zeros(2)}, "blocks": [block, block]}
    params |= {"output": {"weights": jnp.ones((8, 2)), "bias": jnp.zeros(8)}}
    np.testing.assert_array_equal(model.apply(params, jnp.ones(2), key=KEY), np.full(8, 2.0))  # the stream is whole

    def kept(narrowed: tuple[int, ...]) -> jax.Array:
        """What a block that sums its widened units adds: each is 2, those kept count twice."""
        summing = narrow | {"weights": jnp.ones((2, 8))}
        blocks = [block | {"narrow": summing if number in narrowed else narrow} for number in range(2)]
        return jax.vmap(lambda key: model.apply(params | {"blocks": blocks}, jnp.zeros(2), key=key)[0])(
            jax.random.split(KEY, 40)
        )

    first, second = kept((0,)), kept((1,))
    assert set(np.unique(first)) <= {8.0 * units for units in range(9)}
    assert np.mean(np.asarray(first != second)) > 0.4


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", INITIALIZATIONS)
def test_initialisations_have_the_deviation_that_their_papers_give(name: str) -> None:
    inputs, outputs = 300, 200
    variances = {
        "he": 2 / inputs,
        "lecun": 1 / inputs,
        "glorot": 2 / (inputs + outputs),
        "normal": 1e-8,
        "zeros": 0,
        "orthogonal": 1 / inputs,
    }
    expected = variances[name.split("_")[0]] ** 0.5
    weights = np.asarray(linear(outputs, initialization=name).init(KEY, (inputs,))["weights"], np.float64)
    assert np.std(weights) == pytest.approx(expected, rel=0.02)
    if name == "orthogonal":
        np.testing.assert_allclose(weights @ weights.T, np.eye(outputs), atol=1e-5)
    if name.endswith("_uniform"):
        assert np.abs(weights).max() == pytest.approx(expected * 3**0.5, rel=0.01)
    if name in ("he", "lecun", "normal"):  # a normal distribution that is not cut off
        assert np.abs(weights).max() > 3.5 * expected


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "without"), [("he_uniform", "lecun_uniform"), ("glorot_normal", "glorot_normal")])
@pytest.mark.parametrize("residual", [False, True])
def test_layers_that_no_activation_follows_begin_without_hes_factor(name: str, without: str, residual: bool) -> None:
    params = jax.jit(lambda: mlp((50, 50), 40, residual=residual, initialization=name).init(KEY, (60,)))()
    plain = [params["embedding"], params["blocks"][0]["narrow"]] if residual else []
    activated = [params["blocks"][0]["widen"]] if residual else params["hidden"]
    for expected, layers in ((name, activated), (without, [*plain, params["output"]])):
        for layer in layers:
            drawn = np.asarray(INITIALIZATIONS[expected](jax.random.key(9), layer["weights"].shape[::-1]))
            assert np.std(layer["weights"]) == pytest.approx(float(np.std(drawn)), rel=0.06)
            np.testing.assert_array_equal(layer["bias"], 0)


@pytest.mark.exhaustive
def test_by_default_the_same_draws_as_ever() -> None:
    """Published results depend on them."""
    key = jax.random.fold_in(KEY, 0)
    params = mlp((5,), 3).init(KEY, (4,))
    np.testing.assert_array_equal(params["hidden"][0]["weights"].T, (2 / 4) ** 0.5 * jax.random.normal(key, (4, 5)))
    key = jax.random.fold_in(KEY, 1)
    np.testing.assert_array_equal(params["output"]["weights"].T, 5**-0.5 * jax.random.normal(key, (5, 3)))
    np.testing.assert_array_equal(linear(3).init(KEY, (4,))["weights"].T, 1e-4 * jax.random.normal(KEY, (4, 3)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", [{"layer_norm": True}, {"residual": True}])
def test_in_bfloat16_products_are_rounded_and_parameters_gradients_and_scores_are_not(options: dict) -> None:
    model = mlp((16, 16), 5, **options)
    rounded = standardized(in_dtype(model, "bfloat16"), np.full(3, 128.0), np.full(3, 64.0))
    params = jax.jit(lambda: rounded.init(KEY, (5, 4, 3)))()
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    image = jnp.asarray(IMAGES[0])

    def score(model: Model, x: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
        scores = model.apply(params, x)
        return scores[0], scores

    apply = jax.jit(jax.value_and_grad(partial(score, rounded, image), has_aux=True))
    plain = jax.jit(jax.value_and_grad(partial(score, model, (image.astype(float) - 128) / 64), has_aux=True))
    ((_, scores), gradient), ((_, exact), slopes) = apply(params), plain(params)
    assert scores.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}
    assert (scores != exact).any()
    np.testing.assert_allclose(scores, exact, atol=0.05)
    for rough, exact in zip(*map(jax.tree.leaves, (gradient, slopes)), strict=True):
        np.testing.assert_allclose(rough, exact, atol=0.03 * np.abs(exact).max() + 1e-3)
    products = [x for x in str(apply.trace(params).jaxpr).splitlines() if " dot_general[" in x]
    assert products
    assert all(":bf16[" in x for x in products)


@pytest.mark.exhaustive
def test_layer_normalisation_in_bfloat16_does_not_cancel() -> None:
    """Mean 100, deviation 1: squares with eight bits could not tell."""
    size = 64
    model = mlp((size,), size, layer_norm=True, activation="elu")
    eye = {"weights": jnp.eye(size), "bias": jnp.zeros(size)}
    params = {"hidden": [{**eye, "scale": jnp.ones(size), "offset": jnp.full(size, 4.0)}], "output": eye}
    x = jnp.where(jnp.arange(size) % 2 == 0, 99.0, 101.0)
    np.testing.assert_allclose(in_dtype(model, jnp.bfloat16).apply(params, x), model.apply(params, x), atol=0.05)


def test_an_example_of_another_size_is_refused() -> None:
    params = initial("mlp", (5, 4, 3))
    message = r"example: has shape \(5, 4\), 20 numbers; the parameters are for 60"
    with pytest.raises(ValueError, match=message):
        MODELS["mlp"].apply(params, jnp.ones((5, 4)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mlp("16", 3), TypeError, "hidden: needs a whole number, got '1'"),
        (lambda: mlp((8, 1.5), 3), TypeError, "hidden: needs a whole number, got 1.5"),
        (lambda: mlp((16,), 2.5), TypeError, "num_classes: needs a whole number, got 2.5"),
        (lambda: linear(0), ValueError, "num_classes: must be at least 1, got 0"),
        (
            lambda: mlp((8, 9), 3, residual=True),
            ValueError,
            "hidden: residual blocks need sizes that are all equal, got (8, 9)",
        ),
        (
            lambda: linear(3, initialization="xavier"),
            ValueError,
            f"initialization: 'xavier' is unknown; choose one of {', '.join(INITIALIZATIONS)}",
        ),
        (
            lambda: mlp((8,), 3, initialization="zeros"),
            ValueError,
            "initialization: 'zeros' is for linear; all hidden units would remain identical",
        ),
        (
            lambda: in_dtype(linear(3), "int8"),
            ValueError,
            "dtype: needs a floating-point dtype such as 'bfloat16', got 'int8'",
        ),
        (
            lambda: in_dtype(linear(3), "bf16"),
            ValueError,
            "dtype: needs a floating-point dtype such as 'bfloat16', got 'bf16'",
        ),
    ],
)
def test_a_wrong_model_is_refused_in_one_line(make: Callable[[], Model], error: type, message: str) -> None:
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == message


@pytest.mark.exhaustive
def test_without_a_key_nothing_is_dropped() -> None:
    with_dropout, without = mlp((50,), 3, dropout=0.5), mlp((50,), 3)
    params, x = jax.jit(lambda: without.init(KEY, (8,)))(), jnp.arange(8.0)
    evaluated = without.apply(params, x)
    np.testing.assert_array_equal(with_dropout.apply(params, x), evaluated)
    np.testing.assert_array_equal(without.apply(params, x, key=KEY), evaluated)
    assert (with_dropout.apply(params, x, key=KEY) != evaluated).any()


@pytest.mark.exhaustive
@pytest.mark.parametrize("dropout", [0.2, 0.75])
def test_dropout_drops_its_share_and_keeps_the_expectation(dropout: float) -> None:
    units, draws = 20, 4000
    model = mlp((units,), units, dropout=dropout)
    params = {
        "hidden": [{"weights": jnp.eye(units), "bias": jnp.zeros(units)}],
        "output": {"weights": jnp.eye(units), "bias": jnp.zeros(units)},
    }
    x = jnp.arange(1.0, units + 1)
    keys = jax.random.split(jax.random.key(1), draws)
    dropped = np.asarray(jax.vmap(lambda key: model.apply(params, x, key=key))(keys), np.float64)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], np.broadcast_to(x, kept.shape)[kept] / (1 - dropout), rtol=1e-5)
    five_errors = 5 * (dropout * (1 - dropout) / draws) ** 0.5  # five standard errors of each unit's share
    np.testing.assert_allclose(kept.mean(axis=0), 1 - dropout, atol=five_errors)
    np.testing.assert_allclose(dropped.mean(axis=0) / x, 1, atol=five_errors / (1 - dropout))


@pytest.mark.exhaustive
def test_dropout_falls_differently_in_each_layer() -> None:
    units = 200
    model = mlp((units, units), units, dropout=0.5)
    layer = {"weights": jnp.eye(units), "bias": jnp.zeros(units)}
    kept = model.apply({"hidden": [layer, layer], "output": layer}, jnp.ones(units), key=KEY) != 0
    assert 0.1 < np.mean(kept) < 0.4  # a quarter is kept by both; one and the same draw would keep half


@pytest.mark.exhaustive
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(("count", "rows", "shape"), [(7, 3, (2, 3)), (6, 3, (3,)), (1, 5, (3,))])
def test_mean_and_deviation_over_blocks_are_those_of_all(
    count: int, rows: int, shape: tuple[int, ...], seed: int
) -> None:
    inputs = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    axes = tuple(range(len(shape)))
    mean, deviation = mean_and_deviation(inputs, rows)
    np.testing.assert_allclose(mean, inputs.mean(axis=axes), rtol=1e-5)
    np.testing.assert_allclose(deviation, inputs.std(axis=axes), rtol=1e-5, atol=1e-4)


@pytest.mark.exhaustive
def test_mean_and_deviation_do_not_cancel_far_from_zero() -> None:
    inputs = (1e4 + np.random.default_rng(0).normal(size=(5000, 2))).astype(np.float32)
    mean, deviation = mean_and_deviation(inputs)
    np.testing.assert_allclose(mean, inputs.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, inputs.astype(np.float64).std(axis=0), rtol=1e-2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(6,), (4, 4, 3)])
def test_standardized_is_the_model_on_what_numpy_standardizes(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(2).integers(0, 256, (40, *shape), dtype=np.uint8)
    images[..., 1] = 77  # a constant column: its deviation counts as 1
    axes = tuple(range(images.ndim - 1))
    deviation = images.std(axis=axes)
    assert deviation[1] == 0
    deviation[1] = 1
    by_numpy = ((images - images.mean(axis=axes)) / deviation).astype(np.float32)

    plain = mlp((6,), 4, dropout=0.5)
    model = standardized(plain, *mean_and_deviation(images))
    params = model.init(KEY, shape)
    jax.tree.map(np.testing.assert_array_equal, params, plain.init(KEY, shape))
    scores = jax.vmap(model.apply, (None, 0))(params, images)
    np.testing.assert_allclose(scores, jax.vmap(plain.apply, (None, 0))(params, by_numpy), rtol=1e-3, atol=1e-3)
    dropped = model.apply(params, jnp.asarray(images[0]), key=KEY)
    np.testing.assert_allclose(dropped, plain.apply(params, jnp.asarray(by_numpy[0]), key=KEY), rtol=1e-3, atol=1e-3)


@pytest.mark.exhaustive
def test_bytes_and_the_same_numbers_as_floats_have_the_same_scores() -> None:
    model = standardized(linear(3), *mean_and_deviation(IMAGES))
    params = model.init(KEY, IMAGES.shape[1:])
    scores = [jax.vmap(model.apply, (None, 0))(params, x) for x in (IMAGES, IMAGES.astype(np.float32))]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": ()}, "hidden: needs one size or more, got none"),
        ({"hidden": (5, 0)}, "hidden: must be at least 1, got 0"),
        (
            {"hidden": (5,), "activation": "step"},
            f"activation: 'step' is unknown; choose one of {', '.join(ACTIVATIONS)}",
        ),
        ({"hidden": (5,), "dropout": 1.0}, "dropout: needs a share from 0 to below 1, got 1.0"),
        ({"hidden": (5,), "dropout": -0.1}, "dropout: needs a share from 0 to below 1, got -0.1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_accepted(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        mlp(num_classes=3, **arguments)
    assert str(error.value) == message
