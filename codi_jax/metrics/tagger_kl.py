"""KL divergence between a tagger's classes of a real and a generated audio of the same prompt.

With the logits r (real) and g (generated) of a tagger's K classes, and a floor ε of 10⁻⁶,

    softmax    p = softmax(r),  q = softmax(g)        KL = mean_i Σ_k p_k ( ln p_k - ln(q_k + ε) )
    sigmoid    p = σ(r),        q = σ(g)              the same sum

in nats. This is KL(real ‖ generated), in which a generated audio that lacks a class of the real one costs most. The
source is `calculate_kl` of AudioLDM's evaluation (`audioldm_eval`), which follows "Taming visually guided sound
generation" (arXiv 2110.08791). Its softmax form is the one that papers report, also AudioGen (arXiv 2209.15352).
AudioSet's classes do not exclude one another, so PANNs, a tagger of them, is trained with sigmoids. The sigmoid form
sums over those classes, without the terms (1 - p) ln (1 - p)/(1 - q): it is not a divergence and may be negative.

It is paired: sample i of both sides is of one prompt. With ε the softmax form is at least -K ε; ε = 0 is exact. The
README of AudioLDM's evaluation warns that PANNs rate silence well, so read it beside a Fréchet distance.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.special import log_expit, log_softmax

from codi_jax.metrics.intervals import standard_error

Form = Literal["softmax", "sigmoid"]


def divergences(real: np.ndarray, generated: np.ndarray, form: Form = "softmax", epsilon: float = 1e-6) -> np.ndarray:
    """The sum over classes of each pair, in nats.

    Args:
      real: logits of real audio, [n, K].
      generated: logits of generated audio, [n, K].
      form: see the module's docstring.
      epsilon: ε >= 0.

    Returns:
      float64 [n].

    Raises:
      ValueError: other shapes, or a logit that is not finite.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or real.shape != generated.shape:
        raise ValueError(f"expected two arrays of logits [n, K], got shapes {real.shape} and {generated.shape}")
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("a logit is not finite")
    logs = (log_softmax(x, axis=-1) if form == "softmax" else log_expit(x) for x in (real, generated))
    log_p, log_q = logs
    floored = np.logaddexp(log_q, np.log(epsilon)) if epsilon else log_q
    return (np.exp(log_p) * (log_p - floored)).sum(-1)


class DivergenceSums(NamedTuple):
    """Number of pairs, sum of their divergences and of their squares; float64 []."""

    number: np.ndarray
    total: np.ndarray
    square: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaggerKL:
    """Metric {"kl", "standard_error", "n"} of batches (real logits [n, K], generated logits [n, K]).

    The standard error is that of the mean over independent pairs, NaN of a single one.

    Attributes:
      form: "softmax" or "sigmoid".
      epsilon: ε >= 0, added to the generated probabilities.
    """

    form: Form = "softmax"
    epsilon: float = 1e-6

    def __post_init__(self):
        if self.form not in get_args(Form):
            raise ValueError(f"form: {self.form!r} must be one of {', '.join(get_args(Form))}")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: {self.epsilon} must be at least 0")

    def init(self) -> DivergenceSums:
        return DivergenceSums(np.zeros(()), np.zeros(()), np.zeros(()))

    def update(self, state: DivergenceSums, batch: tuple[np.ndarray, np.ndarray]) -> DivergenceSums:
        values = divergences(*batch, self.form, self.epsilon)
        return self.merge(state, DivergenceSums(np.array(float(len(values))), values.sum(), np.square(values).sum()))

    def merge(self, a: DivergenceSums, b: DivergenceSums) -> DivergenceSums:
        return DivergenceSums(*(x + y for x, y in zip(a, b, strict=True)))

    def compute(self, state: DivergenceSums) -> dict[str, float]:
        n = float(state.number)
        if not n:
            raise ValueError("no pairs to measure a divergence of")
        mean = float(state.total) / n
        return {"kl": mean, "standard_error": standard_error(n, mean, float(state.square)), "n": n}
