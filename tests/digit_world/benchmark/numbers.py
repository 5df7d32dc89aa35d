"""Metrics in the format of `codi-jax evaluate`, with given values."""

from codi_jax.digit_world import CARRIES, LEADING
from codi_jax.metrics.intervals import wilson


def metrics(n=48, names=tuple(CARRIES), real=None, codec=None, matrix=None, joint=None, entropy=None):
    """Metrics with the given rates and entropies, 1 by default.

    Keys of real and codec are (modality, factor), of matrix (prompt, output, factor), of joint and entropy (output,
    output).
    """

    def row(rates, key, output, factor):
        rate = (rates or {}).get(key, 1.0)
        ceiling = (real or {}).get((output, factor), 1.0)
        return {"accuracy": rate, "interval": list(wilson(rate, n)), "ceiling": ceiling}

    def pair(key):
        rate, evenness = ((values or {}).get(key, 1.0) for values in (joint, entropy))
        cell = {"joint": rate, "interval": list(wilson(rate, n)), "entropy": evenness}
        return {"n": n, "trained": True, LEADING: {**cell, "entropy_interval": [evenness, evenness]}}

    return {
        "n": n,
        "codec": {m: {"n": n, "factors": {f: row(codec, (m, f), m, f) for f in CARRIES[m]}} for m in names},
        "matrix": {
            f"{a}->{b}": {
                "n": n,
                "factors": {f: row(matrix, (a, b, f), b, f) for f in CARRIES[b] if f in CARRIES[a]},
            }
            for a in names
            for b in names
        },
        "joint": {f"{a}+{b}": pair((a, b)) for i, a in enumerate(names) for b in names[i + 1 :]},
    }
