"""Metrics as `codi-jax evaluate` writes them, of a made-up model whose every number is given."""

from codi_jax.data.digit_world import CARRIES, LEADING
from codi_jax.evaluate.intervals import wilson


def metrics(n=48, names=tuple(CARRIES), real=None, codec=None, matrix=None, joint=None, entropy=None):
    """Rates are 1 where none is given (the entropy, too): real and codec by (modality, factor), matrix by (prompt,
    output, factor), joint and entropy by (output, output)."""

    def row(rates, key, output, factor):
        rate = (rates or {}).get(key, 1.0)
        ceiling = (real or {}).get((output, factor), 1.0)
        return {"accuracy": rate, "interval": list(wilson(rate, n)), "ceiling": ceiling}

    def pair(key):
        rate, even = ((given or {}).get(key, 1.0) for given in (joint, entropy))
        cell = {"joint": rate, "interval": list(wilson(rate, n)), "entropy": even, "entropy_interval": [even, even]}
        return {"n": n, "trained": True, LEADING: cell}

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
