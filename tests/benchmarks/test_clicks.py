"""The benchmark of clicks on real waveforms, without a model."""

import numpy as np

from benchmarks import clicks
from codi_jax.digit_world import DigitWorld, WorldConfig

N = 8


def test_rows_and_table(monkeypatch):
    source = DigitWorld(WorldConfig("val", size=N, modalities=("audio",)))
    batch = source.read(range(N))
    audio = {
        "real": batch["audio"],
        "real, no click": source.audio_without_click(range(N)),
        "late": np.roll(batch["audio"], 800, axis=1),  # by 100 ms
    }
    monkeypatch.setattr(clicks, "waveforms", lambda model, n: (audio, (batch["factors"]["event"] + 0.5) / 8))
    real, without, late = clicks.measure("digit_world", N)
    assert real["found"] == real["claimed"] == 1 and real["error_ms"] < 5
    assert without == {"audio": "real, no click", "n": N, "claimed": without["claimed"]} and without["claimed"] <= 1 / N
    assert late["found"] == 0 and late["claimed"] > 0.5 and abs(late["error_ms"] - 100) < 10
    lines = [line.split("  ") for line in clicks.to_table([real, without]).splitlines()]
    assert [line[0] for line in lines] == ["audio", "real", "real, no click"]
    assert lines[1][-1].strip() == "1.000" and "-" in [cell.strip() for cell in lines[2]]
