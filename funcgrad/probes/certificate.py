"""How far a probe may be from the optimum: bounds from one gradient, derived here, checked by tests in many digits.

Notation: P(W, b) = ½‖W‖² + Σ sᵢ ℓᵢ(W xᵢ + b), sᵢ = C wᵢ; φ(W) = min over b of P(W, b); rᵢ = ∂ℓᵢ/∂z; Dᵢ the Hessian of
ℓᵢ, whose largest eigenvalue is at most dᵢ; ρ the link's spread: ‖u‖ = 1 makes two scores differ by at most ρ (√2; 1 for
the sigmoid, whose other score is 0).

1. *Strong convexity.* P − ½‖W‖² is convex, and so is its minimum over b; φ is therefore 1-strongly convex, and
   ‖W − W*‖ ≤ ‖∇φ(W)‖,  φ(W) − P* ≤ ½‖∇φ(W)‖²  (Nesterov 2004, theorem 2.1.10).

2. *Self-concordance.* Along scores z + t u, ψ(t) = ℓ(z + t u) has the second derivative Var_p(u) and the third
   E_p(u − E_p u)³, at most (max u − min u) times the second: so the curvature changes by at most the factor
   e^{±t(max u − min u)} (Bach 2010, Self-concordant analysis for logistic regression, section 2). The same holds of the
   sigmoid with |u|.

3. *The intercept.* b has the residual h = ∇_b P(W, b), and μ is the least eigenvalue of ∇²_b P (on vectors of sum 0 for
   the softmax, which a constant added to b does not change). Along the unit vector u from b to the minimiser at
   distance T, ‖h‖ ≥ ∫₀ᵀ μ e^{−ρt} dt, so  T ≤ −log(1 − ρ‖h‖/μ)/ρ,  if ρ‖h‖ < μ.

4. *The gradient of φ* is ∇_W P at the minimising b: ‖∇φ(W)‖ ≤ ‖∇_W P(W, b)‖ + T e^{ρT} Σ sᵢ dᵢ‖xᵢ‖. With 1 this is the
   radius r, and the gap is at most ½r² + P(W, b) − φ(W) ≤ ½r² + ‖h‖T.

5. *The optimal intercept.* Between W and W* no score of example i moves by more than r‖xᵢ‖, so at (W*, b) the residual
   is at most h' = ‖h‖ + r e^{ρrX} Σ sᵢ dᵢ‖xᵢ‖, X the largest ‖xᵢ‖, and the curvature at least μ e^{−ρrX}; 3 then bounds
   ‖b − b*‖.

   Where r is small, less is lost by the derivative of b*(W), −H⁻¹G with H = ∇²_b P and G = ∇_b∇_W P = Σ sᵢ Dᵢ ⊗ xᵢ,
   whose norm is κ. On the way b moves by β, say, and no difference of scores by more than m = ρ(rX + T + β), so that
   every Dᵢ stays within the factors e^{±m}: H changes by at most (e^m − 1)Λ, Λ its largest eigenvalue, and G applied to
   W* − W by at most (e^m − 1) r Σ sᵢ dᵢ‖xᵢ‖. From H(t)⁻¹ = H⁻¹ + H(t)⁻¹(H − H(t))H⁻¹ and ‖H(t)⁻¹‖ ≤ e^m/μ,
   β ≤ r [κ (1 + e^m(e^m − 1)Λ/μ) + e^m(e^m − 1) Σ sᵢ dᵢ‖xᵢ‖/μ]; a β that the right side does not exceed is proved,
   since b moves continuously from 0.

6. *A prediction* is certain if every other score is lower by more than ρ(r‖x‖ + ‖b − b*‖), and what rounding may add.

7. *Rounding* (Higham 2002, section 3.1: γₙ = nu/(1 − nu), u = 2⁻⁵³). A score has an error of at most
   εᵢ = γ_{D+2}(‖xᵢ‖‖W‖ + ‖b‖); a residual, whose entries are sums of K exponentials over another, one of
   γ_{2K+12}‖rᵢ‖ and what εᵢ in each of the K scores does, at most 2dᵢ√K εᵢ (the factor 2 is more than e^{2ρεᵢ} while
   εᵢ < 0.1); and a sum over n examples γₙ times that of the absolute values. In all the gradient's error is at most
   γ_{n+2K+12} Σ sᵢ‖rᵢ‖‖xᵢ‖ + 2√K γ_{D+2} Σ sᵢ dᵢ‖xᵢ‖(‖xᵢ‖‖W‖ + ‖b‖) + 2u(‖W‖ + ‖∇_W P‖),
   and that of h the same without the factor ‖xᵢ‖ and the last term.
   The sums are computed in float64, too, and taken a millionth larger.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from funcgrad.probes.objective import Evaluation, Link, Params

_UNIT = 2.0**-53
_SLACK = 1 + 1e-6  # for the rounding of the bounds themselves, sums of positive numbers


class Certificate(NamedTuple):
    """Of one setting."""

    gap: float  # P(W, b) − P* is at most this
    radius: float  # and ‖W − W*‖ this
    intercept_radius: float  # and ‖b − b*‖ this
    rounding: float  # the part of the radius that more iterations cannot remove


def certificate(
    params: Params, found: Evaluation, link: Link, count: int, has_intercept: bool, mixed: Any = None
) -> Certificate:
    """The bounds for one setting from one evaluation; infinite where they prove nothing.

    Args:
      count: how many numbers are added one after the other, at most, in a sum over the examples.
      mixed: ∇_b∇_W P (K, K, D), for a closer bound on the intercept.
    """
    classes, dimensions = params.coef.shape
    coef_norm, intercept_norm = _norm(params.coef), _norm(params.intercept)
    gradient, h = _norm(found.gradient.coef), _norm(found.gradient.intercept) if has_intercept else 0.0
    score_error = _gamma(dimensions + 2)
    of_scores = 2 * math.sqrt(classes) * score_error
    largest_error = score_error * (float(found.largest_norm) * coef_norm + intercept_norm)
    if not math.isfinite(gradient + h) or largest_error > 0.1:
        return Certificate(math.inf, math.inf, math.inf, math.inf)
    of_numbers = _gamma(count + 2 * classes + 12)
    residuals, curvatures = found.residual_sums, found.curvature_sums
    # Of the gradient by b, and by W: the sums without and with the factor ‖xᵢ‖.
    errors = [
        of_numbers * float(residuals[power])
        + of_scores * (float(curvatures[power + 1]) * coef_norm + float(curvatures[power]) * intercept_norm)
        for power in (0, 1)
    ]
    rounding = _SLACK * (errors[1] + 2 * _UNIT * (coef_norm + gradient))
    radius, near, far = gradient + rounding, 0.0, 0.0
    if has_intercept:
        h, curvature = h + _SLACK * errors[0], _SLACK * float(curvatures[1])
        mu = _least_curvature(found.intercept_hessian, link)
        near = distance_to_minimum(h, mu, link.spread)
        radius += _exp(link.spread * near) * near * curvature
        moved = _exp(link.spread * radius * float(found.largest_norm))
        far = distance_to_minimum(h + radius * moved * curvature, mu / moved, link.spread)
        if mixed is not None:
            far = min(far, near + _movement(radius, near, curvature, mu, found, mixed, link))
    gap = radius**2 / 2 + h * near if near else radius**2 / 2
    return Certificate(gap * _SLACK, radius * _SLACK, far * _SLACK, rounding)


def _movement(
    radius: float, near: float, curvature: float, mu: float, found: Evaluation, mixed: Any, link: Link
) -> float:
    """β of 5; infinite where it is not proved."""
    hessian = np.asarray(found.intercept_hessian, np.float64)
    largest, classes = float(np.trace(hessian)), len(hessian)
    derivative = np.linalg.pinv(hessian, rcond=1e-12, hermitian=True) @ np.asarray(mixed).reshape(classes, -1)
    kappa = math.sqrt(np.linalg.eigvalsh(derivative @ derivative.T)[-1]) + 1e-9 * curvature / mu
    tried = 2 * kappa * radius
    for _ in range(4):
        moved = _exp(link.spread * (radius * float(found.largest_norm) + near + tried))
        change = moved * (moved - 1)
        beta = _SLACK * radius * (kappa * (1 + change * largest / mu) + change * curvature / mu)
        if beta <= tried:
            return tried
        tried = 2 * beta
    return math.inf


def distance_to_minimum(gradient: float, curvature: float, spread: float) -> float:
    """Of a self-concordant function, from the norm of its gradient and its least curvature (see 3); maybe infinite."""
    if gradient == 0:
        return 0.0
    share = spread * gradient / curvature if curvature > 0 else math.inf
    return -math.log1p(-share) / spread if share < 1 else math.inf


def certified(z: np.ndarray, norms: np.ndarray, params: Params, bound: Certificate, link: Link) -> np.ndarray:
    """Which predictions of examples with scores z (M, K) and ‖x‖ (M,) hold for the optimum, too: (M,) bool."""
    if not math.isfinite(bound.radius + bound.intercept_radius):
        return np.zeros(len(z), bool)
    rounding = _gamma(params.coef.shape[1] + 2) * (norms * _norm(params.coef) + _norm(params.intercept))
    moved = link.spread * (bound.radius * norms + bound.intercept_radius) + 2 * rounding
    if z.shape[1] == 1:
        return np.abs(z[:, 0]) > moved * _SLACK
    best, second = np.partition(z, -2, axis=1)[:, [-1, -2]].T
    return best - second > moved * _SLACK


def _least_curvature(hessian: Any, link: Link) -> float:
    """Of the intercept: of vectors of sum 0 for the softmax, less the error of the eigenvalues."""
    hessian = np.asarray(hessian, np.float64)
    size = len(hessian)
    if size > 1:  # the constant vector gets a large eigenvalue
        hessian = hessian + np.trace(hessian) * np.ones((size, size)) / size
    return float(np.linalg.eigvalsh(hessian)[0]) - 1e-9 * float(np.trace(hessian))


def _gamma(count: int) -> float:
    return count * _UNIT / (1 - count * _UNIT)


def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x, np.float64)))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
