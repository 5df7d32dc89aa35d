"""Two waveforms in one: samples that are kept, and generated ones between them, without a step where they meet."""

import numpy as np

from codi_jax.media import files

_FADE = 0.005  # seconds


def join_waveforms(
    generated: np.ndarray, value: np.ndarray, kept: np.ndarray, rate: int, normalized: bool = False
) -> np.ndarray:
    """Puts the kept samples of a waveform into a generated one.

    A stretch of generated samples is moved to the level of the kept sample beside it; the offset decays within 5 ms.
    Without it the step between them would be heard as a click.

    Args:
      generated: int16 [L].
      value: the given waveform, int16 [L'].
      kept: bool [L'], which of its samples are kept; those behind L are left out.
      rate: samples per second.
      normalized: whether the generated waveform has a mean of 0 and the peak of a value that was scaled to ½; it gets
        those of the value.

    Returns:
      int16 [L]; kept samples have their bits.
    """
    length = min(len(generated), len(value))
    out = generated.astype(np.float32)
    if normalized:
        given = value.astype(np.float32)
        peak = np.abs(given - given.mean()).max()
        out = out * (2 * peak / files.FULL) + given.mean()
    keep = np.zeros(len(out), bool)
    keep[:length] = kept[:length]
    edges = np.flatnonzero(np.diff(keep))  # of each pair of neighbours the first
    fade = max(1, round(_FADE * rate))
    offsets = np.zeros_like(out)
    for edge in edges:
        after = keep[edge]  # whether the generated samples follow
        first, own = (edge, edge + 1) if after else (edge + 1, edge)
        step = float(value[first]) - out[own]
        ramp = step * (1 - np.arange(fade) / fade)
        at = own + np.arange(fade) if after else own - np.arange(fade)
        inside = (at >= 0) & (at < len(out))
        offsets[at[inside]] += ramp[inside]
    joined = np.clip(np.round(out + np.where(keep, 0, offsets)), -files.FULL, files.FULL - 1).astype(np.int16)
    joined[:length][keep[:length]] = value[:length][keep[:length]]
    return joined
