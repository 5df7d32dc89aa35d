"""Outside judges: the samples of an evaluation, read by what was not trained on the world.

    text             the words of a caption are parsed: every factor
    image            a pretrained text recogniser: the digit
    audio            a pretrained speech recogniser: the digit
    video            the text recogniser, on the middle frame: the digit; phase correlation: motion and moment

The networks are those of `judges.pretrained`. Metrics are computed as for the packaged judges, by the same functions,
of the first n samples of each part. A direction lists the factors that its output's outside judge reads, a set of
outputs those that the outside judges of all its outputs which carry them read. Where they can read, their numbers come
first in every table: no judge of this project, and no choice made for it, is in them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.digit_world import CARRIES, FACTORS, LEADING, READERS
from codi_jax.digit_world.benchmark import joint, matrix
from codi_jax.digit_world.benchmark.samples import clusterings
from codi_jax.digit_world.judges import pretrained
from codi_jax.digit_world.judges.readers import ParserReader, Reading
from codi_jax.digit_world.tracking import MEASURED, MEASURES

KINDS = {"codec": "seen", "matrix": "seen", "held_out": "held_out"}  # kind of direction -> its real samples
_JOINT = ("joint", "interval", "clusters", "n_effective", "independent", "shuffled", "chance", "entropy")


class _Judges:
    """The outside judges of the modalities of a model, for some factors of the world."""

    def __init__(self, networks: Mapping[str, pretrained.Reader], factors: Sequence[str]):
        self._networks, self._factors = networks, factors

    def factors(self, name: str) -> tuple[str, ...]:
        """The factors that are read from a modality."""
        if name in READERS:
            read = CARRIES[name]
        else:
            read = ((LEADING,) if name in self._networks else ()) + MEASURED.get(name, ())
        return self.evaluated(read)

    def evaluated(self, *of: Collection[str]) -> tuple[str, ...]:
        """The factors to read that all collections contain, in the order of the world."""
        return tuple(f for f in FACTORS if f in self._factors and all(f in collection for collection in of))

    def read(self, name: str, values: np.ndarray, factors: Sequence[str]) -> Reading:
        """Reads some factors, of those of `factors`, from values [n] of a modality."""
        if name in READERS:
            return ParserReader(READERS[name], factors)(values.tolist())
        read = {}
        if LEADING in factors:
            read[LEADING] = self._networks[name](values)
        if not set(factors) <= read.keys():
            read |= MEASURES[name](values)
        return Reading({factor: read[factor] for factor in factors})


def judge(codi: CoDi, samples: Mapping[str, Any], n: int, factors: Sequence[str] = tuple(FACTORS)) -> dict[str, Any]:
    """Reads the samples of an evaluation with the outside judges.

    Args:
      codi: the model.
      samples: those of `benchmark.run` as nested dicts: "real" and, of the rest, what there is.
      n: number of samples to read of each direction and set, the first ones.
      factors: factors of the world to read.

    Returns:
      {"n", "judges": {modality: what reads it, or why there is no network}, "codec", "matrix" and "held_out":
      {direction: {"n", "factors": {factor: row}, "all": row or None}} with the rows of `matrix.direction`, "joint":
      {outputs: {"n", factor: row}} with those of `joint.coherence`}. "all" is None if the outside judge does not read
      all factors that prompt and output share. Without any network there are no rows.
    """
    networks, names = pretrained.make_readers(codi, samples["real"]["seen"]["values"])
    judges = _Judges(networks, factors)
    out: dict[str, Any] = {"n": n, "judges": names, **{kind: {} for kind in KINDS}, "joint": {}}
    if not networks:
        return out
    out["judges"] = {name: "words of the caption" for name in samples["real"]["seen"]["values"] if name in READERS}
    out["judges"] |= {m: ", ".join([network, *["phase correlation"] * (m in MEASURES)]) for m, network in names.items()}
    for kind, real in KINDS.items():
        if samples.get(kind):
            out[kind] = _directions(judges, samples[kind], samples["real"][real], n)
    if samples.get("joint"):
        out["joint"] = _joint(judges, samples["joint"], samples["independent"]["values"], n)
    return out


def _directions(judges: _Judges, cells: Mapping[str, Any], real: Mapping[str, Any], n: int) -> dict[str, Any]:
    truth = {factor: values[:n] for factor, values in real["factors"].items()}
    instances = {name: rows[:n] for name, rows in real.get("instances", {}).items()}
    ceilings: dict[str, Reading] = {}
    out = {}
    for title, cell in cells.items():
        source, _, output = title.rpartition("->")
        source = source or output  # a codec has the title of its modality
        factors = judges.factors(output)
        if not (shared := judges.evaluated(CARRIES[source], factors)):
            continue
        if output not in ceilings:
            ceilings[output] = judges.read(output, real["values"][output][:n], factors)
        reading = judges.read(output, cell["values"][:n], factors)
        prompts, outputs = (clusterings(instances, (name,)) for name in (source, output))
        row = matrix.direction(source, truth, reading, ceilings[output], prompts, outputs)
        reads_all = shared == judges.evaluated(CARRIES[source], CARRIES[output])
        out[title] = {"n": row["n"], "factors": row["factors"], "all": row["all"] if reads_all else None}
    return out


def _joint(judges: _Judges, sets: Mapping[str, Any], alone: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    singles = {name: judges.read(name, values[:n], judges.factors(name)) for name, values in alone.items()}
    out = {}
    for title, cell in sets.items():
        outputs = title.split("+")
        readable = {  # factors that at least two outputs carry, and that are read from all of these
            factor
            for factor in FACTORS
            if sum(factor in CARRIES[name] for name in outputs) > 1
            and all(factor in judges.factors(name) for name in outputs if factor in CARRIES[name])
        }
        if not readable:
            continue
        factors = {name: judges.evaluated(judges.factors(name), readable) for name in outputs}
        together = {name: judges.read(name, cell["values"][name][:n], factors[name]) for name in outputs}
        rows = joint.coherence(together, singles, {})
        out[title] = {"n": rows["n"], **{f: {key: rows[f][key] for key in _JOINT} for f in FACTORS if f in rows}}
    return out


def cells(metrics: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The rows of the outside judges in metrics.json: title -> {"n", "factors": {factor: row}, "all": row or None}.

    Args:
      metrics: contents of metrics.json; files from before there were rows of several factors have the digit only, and
        no intervals.
      kind: "codec", "matrix", "held_out" or "joint".
    """
    read = metrics.get("pretrained") or {}
    out = {}
    for title, cell in read.get(kind, {}).items():
        if kind == "joint":
            factors = {factor: cell[factor] for factor in FACTORS if factor in cell} or {LEADING: cell}
        else:
            factors = cell.get("factors") or {LEADING: cell}
        out[title] = {"n": cell.get("n", read["n"]), "factors": factors, "all": cell.get("all")}
    return out


def described(metrics: Mapping[str, Any]) -> str:
    """Who the outside judges are and how many samples they read, as a line; why there are none; "" if not asked for."""
    read = metrics.get("pretrained") or {}
    networks = read.get("judges", {})
    if not networks:
        return ""
    names = "; ".join(f"{name}: {network}" for name, network in networks.items())
    if not any(read.get(kind) for kind in (*KINDS, "joint")):
        return f"No outside judges ({names})"
    return f"outside: judges that were not trained on this world, n = {read['n']} ({names})"
