"""Joint coherence: agreement of outputs that were generated together.

With the null prompt, outputs can only agree by attending to one another. The baseline is the same outputs generated
separately from the same noise; it must be at chance. Environment guidance trades fidelity for agreement, so both are
reported; fidelity is the Fréchet distance of the outputs to real samples in the features of their judge.

Each sample is generated from its own noise, without a prompt, so samples share nothing: intervals have no
clusters.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax import digit_world
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics import frechet
from codi_jax.metrics.agreement import UNREAD, Agreement, agreement, agrees, entropy, shuffled
from codi_jax.metrics.base import compute
from codi_jax.metrics.intervals import entropy_interval, proportion_interval


def fidelity(reading: Reading, real: frechet.Gaussian | None) -> float | None:
    """Fréchet distance of generated samples to real samples; None if their reader has no features."""
    if reading.features is None or real is None:
        return None
    return compute(frechet.FrechetDistance(real), [reading.features])["frechet_distance"]


def _entropy_interval(reading: np.ndarray, count: int) -> tuple[float, float]:
    """Interval of the entropy of the values read; (0, 0) if all are unread, in agreement with `entropy`."""
    read = reading[reading != UNREAD]
    return entropy_interval(np.bincount(read, minlength=count)) if len(read) else (0.0, 0.0)


def coherence(
    together: Mapping[str, Reading], alone: Mapping[str, Reading], real: Mapping[str, frechet.Gaussian]
) -> dict[str, Any]:
    """The metrics of one set of outputs.

    Args:
      together: output -> its reading when generated jointly with the others.
      alone: output -> its reading when generated separately.
      real: output -> Gaussian fit of the judge's features of real samples, for outputs that have a judge.

    Returns:
      {"n", factor: {"joint", "interval" (95 %), "clusters", "n_effective", "independent", "shuffled", "chance",
      "entropy", "entropy_interval" (95 %), "fidelity", "outputs"}} for every factor that at least two outputs carry.
      `entropy` and `fidelity` are the worst over the outputs that carry the factor; "outputs" has both for each of
      them, joint and independent.
    """
    (n,) = {len(r) for reading in together.values() for r in reading.factors.values()}
    distances = {
        name: (fidelity(together[name], real.get(name)), fidelity(alone[name], real.get(name))) for name in together
    }
    out: dict[str, Any] = {"n": n}
    for factor, values in digit_world.FACTORS.items():
        carriers = [name for name in together if factor in together[name].factors]
        if len(carriers) < 2:
            continue
        joint = [together[name].factors[factor] for name in carriers]
        independent = [alone[name].factors[factor] for name in carriers]
        detail = {}
        for name, a, b in zip(carriers, joint, independent, strict=True):
            detail[name] = {"entropy": entropy(a, len(values)), "entropy_independent": entropy(b, len(values))}
            if distances[name][0] is not None:
                detail[name]["fidelity"], detail[name]["fidelity_independent"] = distances[name]
        fidelities = [row["fidelity"] for row in detail.values() if "fidelity" in row]
        numbers = compute(Agreement(len(joint), len(values)), [joint])
        worst = min(joint, key=lambda reading: entropy(reading, len(values)))
        out[factor] = {
            "joint": numbers["agreement"],
            **proportion_interval(agrees(joint)).entries(),
            "independent": agreement(independent),
            "shuffled": shuffled(joint),
            "chance": numbers["chance"],
            "entropy": entropy(worst, len(values)),
            "entropy_interval": list(_entropy_interval(worst, len(values))),
            "fidelity": max(fidelities) if fidelities else None,
            "outputs": detail,
        }
    return out
