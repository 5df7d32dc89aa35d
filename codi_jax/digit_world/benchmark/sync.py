"""Synchrony: the offset between the bounce in a video and the click in an audio.

A sample's video bounces in one frame, in the middle of which its audio clicks. The frame is measured by phase
correlation (`tracking`), the click by its rise in all frequencies (`clicks`). Two outputs of the null prompt can be in
step only by attending to one another. An output that was prompted by the other modality is compared with the truth of
the prompt's sample.

The bounce is known to a frame. So the tolerances are half a frame (the click is in the frame of the bounce) and one and
a half (or in a neighbouring frame). A sample that is unread in one of the two is within neither.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codi_jax.digit_world import TIMED
from codi_jax.digit_world.benchmark.outputs import or_none
from codi_jax.digit_world.clicks import click_times
from codi_jax.digit_world.tracking import track
from codi_jax.digit_world.videos import RATE
from codi_jax.metrics.base import compute
from codi_jax.metrics.intervals import Z95, wilson
from codi_jax.metrics.offset import Offset, Times, all_pairs, shuffled

KINDS = ("joint", "prompted", "independent", "ceiling", "shuffled", "chance")  # rows of a set or direction, in order
TOLERANCES = {"same_frame": 0.5 / RATE, "adjacent_frame": 1.5 / RATE}  # seconds


def event_times(frames: np.ndarray) -> np.ndarray:
    """Seconds to the middle of frames [n]; NaN for a frame of -1."""
    return np.where(frames >= 0, (frames + 0.5) / RATE, np.nan)


READERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # modality -> function from raw values to seconds [n]
    "audio": click_times,
    "video": lambda values: event_times(track(values)["event"]),
}


def row(times: Times) -> dict[str, Any]:
    """The metrics of pairs of times.

    Returns:
      {"n", "unread", "offset_ms", "offset_interval", "same_frame", "same_frame_interval", "adjacent_frame",
      "adjacent_frame_interval"}; intervals are of 95 %, None where too few samples are read.
    """
    numbers = compute(Offset(TOLERANCES), [times])
    n, offset, error = int(numbers["n"]), or_none(1000 * numbers["offset"]), or_none(1000 * numbers["standard_error"])
    out: dict[str, Any] = {"n": n, "unread": 1 - numbers["read"] / n, "offset_ms": offset}
    out["offset_interval"] = None if error is None or offset is None else [offset - Z95 * error, offset + Z95 * error]
    for name in TOLERANCES:
        out |= {name: numbers[name], f"{name}_interval": list(wilson(numbers[name], n))}
    return out


def lines(cells: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """The rows of `measure` in the order in which they are shown: (outputs or "real", kind, row)."""
    out: list[tuple[str, str, Mapping[str, Any]]] = [("real", "", cells["real"])]
    out += [("real", "codec", cells["codec"])] if "codec" in cells else []
    for title, cell in {**cells["sets"], **cells["prompted"]}.items():
        out += [(title, kind, cell[kind]) for kind in KINDS if kind in cell]
    return out


def _chance(times: Times) -> dict[str, Any]:
    """What independent times with these distributions give; without intervals, since pairs are not independent."""
    numbers = row(all_pairs(times))
    return {key: value for key, value in numbers.items() if key != "n" and not key.endswith("interval")}


def _controls(times: Times) -> dict[str, Any]:
    return {"shuffled": row(shuffled(times)), "chance": _chance(times)}


def measure(samples: Mapping[str, Any]) -> dict[str, Any]:
    """The synchrony of all outputs of an evaluation.

    Args:
      samples: those of samples.npz as nested dicts, see `benchmark.run`.

    Returns:
      {} if the model has not both modalities, else {"real", "codec": row of real pairs, before and after the codec;
      "sets": {set of outputs with both: {"joint", "independent", "shuffled", "chance": row}}; "prompted": {"A->B":
      {"prompted", "ceiling", "shuffled", "chance": row}}}, where the ceiling is real values of B.
    """
    real = samples["real"]["seen"]
    if not set(TIMED) <= real["values"].keys():
        return {}

    def pair(values: Mapping[str, np.ndarray]) -> Times:
        first, second = (READERS[name](values[name]) for name in TIMED)
        return first, second

    of_real = pair(real["values"])
    out: dict[str, Any] = {"real": row(of_real), "sets": {}, "prompted": {}}
    if codec := samples.get("codec"):
        out["codec"] = row(pair({name: codec[name]["values"] for name in TIMED}))
    sets = {title: cell for title, cell in samples.get("joint", {}).items() if set(TIMED) <= set(title.split("+"))}
    if sets:
        independent = row(pair(samples["independent"]["values"]))
        for title, cell in sets.items():
            times = pair(cell["values"])
            out["sets"][title] = {"joint": row(times), "independent": independent, **_controls(times)}
    truth = event_times(np.asarray(real["factors"]["event"]))
    for title, cell in samples.get("matrix", {}).items():
        prompt, output = title.split("->")
        if prompt != output and {prompt, output} == set(TIMED):
            times = truth, READERS[output](cell["values"])
            ceiling = row((truth, of_real[TIMED.index(output)]))
            out["prompted"][title] = {"prompted": row(times), "ceiling": ceiling, **_controls(times)}
    return out
