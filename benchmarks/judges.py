"""What the packaged judges credit to samples that show nothing, beside judges from elsewhere on the same samples.

    python -m benchmarks.judges --n=64 --json=out/judges.json        (extra `judges`)

Real test samples are degraded as values, in ways and by severities s that no training of the judges has seen applied to
values (it degrades what a judge sees, for audio the spectrogram):

    noise    cos(πs/2) x + sin(πs/2) σ n, n ~ N(0, I), σ the standard deviation of x
    blend    (1 - s) x + s · mean of three other samples

Columns: how often a judge, and the one from elsewhere, reads the leading factor right, and how often the judge says
that nothing is to be read. `credit` is the largest accuracy of the judge where the other reads at most twice what
chance gives, that is, where hardly anything is left to read. A judge whose credit is above 0.15 does not lead a table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from codi_jax.data.digit_world import FACTORS, LEADING
from codi_jax.data.sources import make_source
from codi_jax.evaluate import pretrained
from codi_jax.evaluate.agreement import UNREAD, agreement
from codi_jax.evaluate.readers import JudgeReader, make_readers
from codi_jax.evaluate.samples import array
from codi_jax.packaged import DEFAULT, open_package
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
    """A row for each judged modality, way and severity of a packaged model."""
    package, rng = open_package(name), np.random.default_rng(0)
    readers = make_readers(package.codi, package, n)
    source = make_source(package.run["sources"][package.run["evaluate"]["seen"]])
    rows = source.read(range(n))
    truth = np.asarray(rows["factors"][LEADING])
    real = {m: array(package.codi[m].values(rows)) for m, reader in readers.items() if isinstance(reader, JudgeReader)}
    outside, _ = pretrained.make_readers(package.codi, real)
    out = []
    for modality in real:
        for way, function in (("none", None), ("noise", noise), ("blend", blend)):
            for s in SEVERITIES if function else (0.0,):
                x = function(rows[modality], s, rng) if function else rows[modality]
                values = package.codi[modality].values({**rows, modality: jnp.clip(jnp.float32(x), -1, 1)})
                read = readers[modality](values).factors[LEADING]
                other = outside[modality](array(values)) if modality in outside else None
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
    """See the module; None where nothing from elsewhere reads the modality."""
    most = 2 / len(FACTORS[LEADING])
    own = [row for row in rows if row["modality"] == modality and row["elsewhere"] is not None]
    blank = [row["judge"] for row in own if row["elsewhere"] <= most]
    return max(blank) if blank else None


def shown(rows: list[dict[str, Any]]) -> str:
    number = lambda x: "-" if x is None else f"{x:.3f}"  # noqa: E731
    lines = [("modality", "way", "severity", "judge", "unread", "elsewhere")]
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
    said = [table(lines, right=range(2, 6)), ""]
    for modality in dict.fromkeys(row["modality"] for row in rows):
        found = credit(rows, modality)
        leads = "-" if found is None else "the judge leads" if found <= CREDIT else "the judge from elsewhere leads"
        said.append(f"{modality}: credit {number(found)}, {leads}")
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help=f"a packaged model, or its folder ({DEFAULT})")
    parser.add_argument("--n", type=int, default=64, help="samples of each kind (64)")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    args = parser.parse_args()
    rows = measure(args.model, args.n)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
