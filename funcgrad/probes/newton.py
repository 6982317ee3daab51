"""Newton's method for all settings at once, each step by conjugate gradients preconditioned in one eigenbasis.

A Newton step solves H δ = −∇P. The Hessian is H = I + C Σ wᵢ Dᵢ ⊗ xᵢxᵢᵀ, Dᵢ (K, K) the curvature of example i's loss.
If all Dᵢ were alike (Böhning 1992 bounds them so), the eigenvectors q of Σ wᵢ xᵢxᵢᵀ would make it block diagonal, with
one block (K, K) for each q: Bq = I + C Σ wᵢ (qᵀxᵢ)² Dᵢ. These blocks, with the true Dᵢ, are the preconditioner.

The products H δ are computed in float32 as long as that brings a step nearer; gradients are always in float64.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from funcgrad.probes.objective import (
    Data,
    Link,
    Params,
    Setting,
    curvature_matrix,
    over_examples,
    scores,
    standardized,
    sum_over_blocks,
)


class Tuning(NamedTuple):
    block_rows: int = 1024  # examples of a block
    lanes: int = 8  # settings of one program
    sweep: int = 8  # steps of conjugate gradients between two looks at which settings are done
    most_products: int = 2000  # of one Newton step
    largest_mixed: int = 1 << 24  # numbers of ∇_b∇_W P, for a close bound on the intercept
    sampled_blocks: int = 4  # every so-manyth block enters the preconditioner


TUNING = Tuning()


class Directions(NamedTuple):
    """Conjugate gradients of S settings: δ so far, what is left of −∇P/C, the direction, ⟨residual, preconditioned⟩."""

    solution: Params
    residual: Params
    direction: Params
    product: Any  # (S,)
    norm: Any  # (S,) of the residual
    products: Any  # (S,) int32, of the Hessian


class Hessian(NamedTuple):
    """The Hessian of each setting at one point, as what its products need."""

    probabilities: Any  # (B, S, M, K)
    setting: Setting
    data: Data


class Preconditioner(NamedTuple):
    basis: Any  # (D, D): its columns are the eigenvectors
    blocks: Any  # (S, D, K, K), inverted
    intercept: Any  # (S, K, K), inverted


def probabilities_at(params: Params, data: Data, link: Link, dtype: Any) -> Array:
    """The probabilities (B, S, M, K) of all examples."""
    cast = Params(*(x.astype(dtype) for x in params))
    return lax.map(
        lambda rows: over_examples(link.probabilities)(scores(cast, standardized(rows, data, dtype))), data.rows
    )


def gram(data: Data) -> Array:
    """Σ wᵢ xᵢxᵢᵀ in float32."""

    def of_block(block: Any) -> Array:
        x = standardized(block[0], data, jnp.float32)
        return (x * jnp.expand_dims(block[1].astype(jnp.float32), 1)).T @ x

    return sum_over_blocks(of_block, (data.rows, data.weights))


def precondition(hessian: Hessian, basis: Array, link: Link, every: int) -> Preconditioner:
    """The inverted blocks from every so-manyth block of examples."""
    dtype, (probabilities, setting, data) = basis.dtype, hessian

    def of_block(block: Any) -> Any:
        rows, weights, p = block
        squares = jnp.square(standardized(rows, data, dtype) @ basis)
        curvatures = over_examples(partial(curvature_matrix, link=link))(p)
        curvatures *= jnp.expand_dims(weights.astype(dtype), (0, 2, 3))
        return jnp.einsum("md,smkl->sdkl", squares, curvatures), jnp.sum(curvatures, axis=1)

    def of_setting(blocks: Array, intercept: Array, strength: Array) -> tuple[Array, Array]:
        identity = jnp.eye(len(intercept), dtype=dtype)
        # The softmax has no curvature along the constant vector; there the intercept gets that of its own average.
        flat = jnp.ones_like(identity) * jnp.trace(intercept) / len(identity) ** 2
        inverted = jax.vmap(lambda block: jnp.linalg.inv(block + identity / strength.astype(dtype)))(blocks)
        return inverted, jnp.linalg.inv(intercept + flat)

    sampled = jax.tree.map(lambda x: x[::every], (data.rows, data.weights, probabilities))
    share = (jnp.sum(data.weights) / jnp.sum(sampled[1])).astype(dtype)
    blocks, intercept = (x * share for x in sum_over_blocks(of_block, sampled))
    return Preconditioner(basis, *jax.vmap(of_setting)(blocks, intercept, setting.strength))


def apply_preconditioner(preconditioner: Preconditioner, residual: Params) -> Params:
    rotated = jnp.einsum("skd,de->sek", residual.coef, preconditioner.basis)
    solved = jnp.einsum("sekl,sel->sek", preconditioner.blocks, rotated)
    coef = jnp.einsum("sek,de->skd", solved, preconditioner.basis)
    return Params(coef, jnp.einsum("skl,sl->sk", preconditioner.intercept, residual.intercept))


def hessian_product(vector: Params, hessian: Hessian, link: Link, has_intercept: bool) -> Params:
    """H/C times a vector for each setting, in the vector's dtype: one pass over the examples."""
    dtype, (probabilities, setting, data) = vector.coef.dtype, hessian

    def of_block(block: Any) -> Params:
        rows, weights, p = block
        x = standardized(rows, data, dtype)
        curved = over_examples(link.curvature)(p, scores(vector, x))
        curved *= jnp.expand_dims(weights.astype(dtype), (0, 2))
        return Params(jnp.einsum("smk,md->skd", curved, x), jnp.sum(curved, axis=1))

    of_loss = sum_over_blocks(of_block, (data.rows, data.weights, probabilities))
    ridge = (1 / setting.strength).astype(dtype)
    return Params(of_loss.coef + vector.coef * ridge.reshape(-1, 1, 1), of_loss.intercept * has_intercept)


def start(gradient: Params, setting: Setting, preconditioner: Preconditioner, dtype: Any) -> Directions:
    c = setting.strength
    residual = Params(*((-x / c.reshape(-1, *[1] * (x.ndim - 1))).astype(dtype) for x in gradient))
    direction = apply_preconditioner(preconditioner, residual)
    zeros = jax.tree.map(jnp.zeros_like, residual)
    product, norm = _dot(residual, direction), jnp.sqrt(_dot(residual, residual))
    return Directions(zeros, residual, direction, product, norm, jnp.zeros(len(c), jnp.int32))


def conjugate_gradients(
    state: Directions,
    target: Array,
    hessian: Hessian,
    preconditioner: Preconditioner,
    *,
    link: Link,
    has_intercept: bool,
    sweep: int,
) -> Directions:
    """So many steps of each setting; those whose residual is below its target (S,) stay as they are."""

    def step(_: int, state: Directions) -> Directions:
        image = hessian_product(state.direction, hessian, link, has_intercept)
        curvature = _dot(state.direction, image)
        moving = (state.norm > target) & (curvature > 0)
        length = jnp.where(moving, state.product / jnp.where(moving, curvature, 1), 0)
        solution = _add(state.solution, length, state.direction)
        residual = _add(state.residual, -length, image)
        solved = apply_preconditioner(preconditioner, residual)
        product = _dot(residual, solved)
        ratio = jnp.where(moving, product / jnp.where(moving, state.product, 1), 0)
        direction = _add(solved, ratio, state.direction)
        new = Directions(solution, residual, direction, product, jnp.sqrt(_dot(residual, residual)), state.products + 1)
        return jax.tree.map(lambda a, b: jnp.where(moving.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, state)

    return lax.fori_loop(0, sweep, step, state)


def remaining(solution: Params, gradient: Params, hessian: Hessian, link: Link, has_intercept: bool) -> Array:
    """The share of the gradient (S,) that a step leaves, in the dtype of what is given."""
    image = hessian_product(solution, hessian, link, has_intercept)
    strength = hessian.setting.strength
    wanted = Params(*(-x / strength.reshape(-1, *[1] * (x.ndim - 1)) for x in gradient))
    left = _add(wanted, -jnp.ones_like(strength), image)
    return jnp.sqrt(_dot(left, left) / _dot(wanted, wanted))


def _dot(a: Params, b: Params) -> Array:
    """Of each setting."""
    return jnp.einsum("skd,skd->s", a.coef, b.coef) + jnp.einsum("sk,sk->s", a.intercept, b.intercept)


def _add(a: Params, factor: Array, b: Params) -> Params:
    return jax.tree.map(lambda x, y: x + factor.reshape(-1, *[1] * (x.ndim - 1)) * y, a, b)


def basis_of(data: Data) -> np.ndarray:
    """(D, D) float32: the eigenvectors of the Gram matrix."""
    return np.linalg.eigh(np.asarray(jax.jit(gram)(data), np.float64))[1].astype(np.float32)
