"""The objective of a linear probe, from ONE example to a pass over all of them.

    P(W, b) = C · Σᵢ wᵢ · ℓ(yᵢ, W xᵢ + b) + ½‖W‖²        W (K, D), b (K,); the intercept is not penalised

ℓ is the softmax cross-entropy of K classes, or with K = 1 the sigmoid's: that of two classes, or of one column of
labels. A setting is one value of C with one column of labels; settings are lanes of one program and share its passes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Link(NamedTuple):
    """What is needed of the loss of one example, from its scores z (K,) or its probabilities p (K,)."""

    loss: Callable[[Array, Array], Array]  # (z, y) → ℓ
    probabilities: Callable[[Array], Array]  # z → p
    residual: Callable[[Array, Array], Array]  # (z, y) → ∂ℓ/∂z (K,), without cancellation
    curvature: Callable[[Array, Array], Array]  # (p, u (K,)) → the Hessian ∂²ℓ/∂z² times u
    largest_curvature: Callable[[Array], Array]  # p → a bound on the Hessian's largest eigenvalue
    spread: float  # the largest difference that a vector (K,) of length 1 can make between two scores


def _softmax_residual(z: Array, y: Array) -> Array:
    """p − onehot(y), whose entry at y is minus the sum of the others: 1 − p(y) would cancel."""
    others = jnp.where(jnp.arange(z.shape[0]) == y, 0, jax.nn.softmax(z))
    return jnp.where(jnp.arange(z.shape[0]) == y, -jnp.sum(others), others)


# The Hessian of softmax is H = diag(p) − p pᵀ, and uᵀHu the variance of u under p: at most a quarter of the squared
# range, so ½ for ‖u‖ = 1; and by Gershgorin's circles at most 2 pₖ(1 − pₖ), of a row pₖ(1 − pₖ) + Σ_{j≠k} pₖpⱼ.
SOFTMAX = Link(
    loss=lambda z, y: jax.nn.logsumexp(z) - z[y],
    probabilities=jax.nn.softmax,
    residual=_softmax_residual,
    curvature=lambda p, u: p * (u - jnp.dot(p, u)),
    largest_curvature=lambda p: jnp.minimum(0.5, 2 * jnp.max(p * (1 - p))),
    spread=2**0.5,
)
SIGMOID = Link(
    loss=lambda z, y: jnp.sum(jax.nn.softplus(jnp.where(y == 1, -z, z))),
    probabilities=jax.nn.sigmoid,
    residual=lambda z, y: jnp.where(y == 1, -jax.nn.sigmoid(-z), jax.nn.sigmoid(z)),
    curvature=lambda p, u: p * (1 - p) * u,
    largest_curvature=lambda p: jnp.max(p * (1 - p)),
    spread=1.0,
)


class Data(NamedTuple):
    """Examples in B blocks of M rows, the last of them filled up with examples of weight 0."""

    rows: Any  # (B, M, D), as they came
    labels: Any  # (L, B, M) int32: one column for each of L problems
    weights: Any  # (B, M) float64
    mean: Any  # (D,) float64, which is subtracted from each row,
    inverse_scale: Any  # (D,) float64, by which the difference is multiplied


class Params(NamedTuple):
    """Of one setting; with an axis of settings (S, …) before, of several."""

    coef: Any  # (K, D)
    intercept: Any  # (K,)


class Setting(NamedTuple):
    strength: Any  # C
    column: Any  # int32: which labels


class Evaluation(NamedTuple):
    """One pass in float64: the objective, its gradient, and the sums that the certificate needs."""

    value: Any
    gradient: Params
    intercept_hessian: Any  # (K, K)
    residual_sums: Any  # (2,) C · Σᵢ wᵢ‖rᵢ‖‖xᵢ‖^power of the residuals rᵢ (K,), for the powers 0 and 1
    curvature_sums: Any  # (3,) C · Σᵢ wᵢdᵢ‖xᵢ‖^power of the largest curvatures dᵢ, for the powers 0, 1 and 2
    largest_norm: Any  # of all xᵢ


def standardized(rows: Array, data: Data, dtype: Any) -> Array:
    mean, inverse_scale = (jnp.expand_dims(x.astype(dtype), 0) for x in (data.mean, data.inverse_scale))
    return (rows.astype(dtype) - mean) * inverse_scale


def scores(params: Params, x: Array) -> Array:
    """(S, M, K) of rows x (M, D) for each setting."""
    return jnp.einsum("md,skd->smk", x, params.coef) + jnp.expand_dims(params.intercept, 1)


def curvature_matrix(p: Array, link: Link) -> Array:
    """The Hessian (K, K) of the loss of one example."""
    return jax.vmap(partial(link.curvature, p))(jnp.eye(p.shape[0], dtype=p.dtype))


def over_examples(function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """A function of one example, over settings and examples."""
    return jax.vmap(jax.vmap(function, in_axes), in_axes)


def sum_over_blocks(of_block: Callable[..., Any], blocks: Any) -> Any:
    """The sums of what `of_block` gives of each block; the first axis of each array in `blocks` counts them."""
    first = jax.tree.map(lambda x: x[0], blocks)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_block, first))
    total, _ = lax.scan(lambda sums, block: (jax.tree.map(jnp.add, sums, of_block(block)), None), zeros, blocks)
    return total


def evaluate(params: Params, setting: Setting, data: Data, link: Link, has_intercept: bool) -> Evaluation:
    """Of each of S settings, in float64."""

    def of_block(block: Any) -> Any:
        rows, labels, weights = block
        x = standardized(rows, data, jnp.float64)
        y = labels[setting.column]
        z = scores(params, x)
        norms = jnp.linalg.norm(x, axis=1)
        p = over_examples(link.probabilities)(z)
        r = over_examples(link.residual)(z, y)
        d = over_examples(link.largest_curvature)(p)
        powers = jnp.expand_dims(weights, 1) * jnp.vander(norms, 3, increasing=True)
        weighted = r * jnp.expand_dims(weights, (0, 2))
        return (
            jnp.einsum("m,sm->s", weights, over_examples(link.loss)(z, y)),
            Params(jnp.einsum("smk,md->skd", weighted, x), jnp.sum(weighted, axis=1)),
            jnp.einsum("m,smkl->skl", weights, over_examples(partial(curvature_matrix, link=link))(p)),
            jnp.linalg.norm(r, axis=2) @ powers[:, :2],
            d @ powers,
        )

    def norm_of_block(block: Any) -> Array:
        rows, weights = block
        norms = jnp.linalg.norm(standardized(rows, data, jnp.float64), axis=1)
        return jnp.max(jnp.where(weights > 0, norms, 0))

    blocks = data.rows, jnp.moveaxis(data.labels, 0, 1), data.weights
    totals = sum_over_blocks(of_block, blocks)
    largest_norm = jnp.max(lax.map(norm_of_block, (data.rows, data.weights)))
    value, gradient, hessian, residual_sums, curvature_sums = jax.tree.map(
        lambda x: x * setting.strength.reshape(-1, *[1] * (x.ndim - 1)), totals
    )
    return Evaluation(
        value + jnp.sum(params.coef**2, axis=(1, 2)) / 2,
        Params(gradient.coef + params.coef, gradient.intercept * has_intercept),
        hessian,
        residual_sums,
        curvature_sums,
        jnp.full_like(value, largest_norm),
    )


def mixed_hessian(params: Params, setting: Setting, data: Data, link: Link) -> Array:
    """∇_b∇_W P = C Σᵢ wᵢ Dᵢ ⊗ xᵢ of each setting, (S, K, K, D) in float64: K times the work of a gradient."""

    def of_block(block: Any) -> Array:
        rows, weights = block
        x = standardized(rows, data, jnp.float64)
        curvatures = over_examples(partial(curvature_matrix, link=link))(
            over_examples(link.probabilities)(scores(params, x))
        )
        return jnp.einsum("smkl,md->skld", curvatures * jnp.expand_dims(weights, (0, 2, 3)), x)

    return sum_over_blocks(of_block, (data.rows, data.weights)) * setting.strength.reshape(-1, 1, 1, 1)
