"""Accuracy of the packaged judges on degraded samples, compared with the pretrained judges on the same samples.

    python -m benchmarks.judges --n=64 --json=out/judges.json        (extra `judges`)

Raw values of real test samples are degraded with severity s. (The training of the judges degrades their input instead,
which for audio is the spectrogram.)

    noise    cos(πs/2) x + sin(πs/2) σ n, n ~ N(0, I), σ the standard deviation of x
    blend    (1 - s) x + s · mean of three other samples

Columns: accuracy of the packaged judge on the leading factor, the fraction of samples that it calls unreadable, and the
accuracy of the pretrained judge. `credit` is the largest accuracy of the packaged judge at a severity at which the
pretrained judge reads at most twice the chance rate. A packaged judge with a credit above 0.15 is not reliable on
samples without content, and the pretrained judge should be reported first.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks import of_model
from codi_jax.data.source import make_source, read_batch
from codi_jax.digit_world import FACTORS, LEADING
from codi_jax.digit_world.benchmark.samples import array
from codi_jax.digit_world.judges import pretrained
from codi_jax.digit_world.judges.readers import JudgeReader, make_readers
from codi_jax.metrics.agreement import UNREAD, agreement
from codi_jax.packaged import open_package
from codi_jax.parallel.tables import table

SEVERITIES = (0.3, 0.5, 0.7, 0.85, 1.0)
CREDIT = 0.15


def noise(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    axes = tuple(range(1, x.ndim))
    mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
    return mean + np.cos(np.pi / 2 * s) * (x - mean) + np.sin(np.pi / 2 * s) * std * rng.standard_normal(x.shape)


def blend(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return (1 - s) * x + s * sum(np.roll(x, k, axis=0) for k in (1, 2, 3)) / 3


def measure(name: str, n: int) -> list[dict[str, Any]]:
    """A row for each modality with a judge, degradation and severity."""
    package, rng = open_package(name), np.random.default_rng(0)
    readers = make_readers(package.codi, package, n)
    source = make_source(package.run["sources"][package.run["evaluate"]["seen"]])
    rows = read_batch(source, range(n))
    truth = np.asarray(rows["factors"][LEADING])
    real = {
        m: array(package.codi[m].raw_from_batch(rows))
        for m, reader in readers.items()
        if isinstance(reader, JudgeReader)
    }
    others, _ = pretrained.make_readers(package.codi, real)
    out = []
    for modality in real:
        for way, function in (("none", None), ("noise", noise), ("blend", blend)):
            for s in SEVERITIES if function else (0.0,):
                x = function(rows[modality], s, rng) if function else rows[modality]
                values = package.codi[modality].raw_from_batch({**rows, modality: jnp.clip(jnp.float32(x), -1, 1)})
                read = readers[modality](values).factors[LEADING]
                other = others[modality](array(values)) if modality in others else None
                out.append(
                    {
                        "modality": modality,
                        "way": way,
                        "severity": s,
                        "judge": agreement((truth, read)),
                        "unread": float((read == UNREAD).mean()),
                        "elsewhere": None if other is None else agreement((truth, other)),
                    }
                )
    return out


def credit(rows: list[dict[str, Any]], modality: str) -> float | None:
    """See the module's docstring; None if no pretrained judge reads the modality."""
    limit = 2 / len(FACTORS[LEADING])
    compared = [row for row in rows if row["modality"] == modality and row["elsewhere"] is not None]
    unreadable = [row["judge"] for row in compared if row["elsewhere"] <= limit]
    return max(unreadable) if unreadable else None


def to_table(rows: list[dict[str, Any]]) -> str:
    """The rows and the credit of each modality as text."""
    number = lambda x: "-" if x is None else f"{x:.3f}"  # noqa: E731
    lines = [("modality", "degradation", "severity", "judge", "unread", "pretrained")]
    lines += [
        (
            r["modality"],
            r["way"],
            f"{r['severity']:.2f}",
            number(r["judge"]),
            number(r["unread"]),
            number(r["elsewhere"]),
        )
        for r in rows
    ]
    parts = [table(lines, right=range(2, 6)), ""]
    for modality in dict.fromkeys(row["modality"] for row in rows):
        value = credit(rows, modality)
        first = "-" if value is None else "packaged judge first" if value <= CREDIT else "pretrained judge first"
        parts.append(f"{modality}: credit {number(value)}, {first}")
    return "\n".join(parts)


if __name__ == "__main__":
    of_model.run(__doc__, 64, measure, to_table)
