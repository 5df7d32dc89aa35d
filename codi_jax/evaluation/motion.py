"""Motion and onsets of videos and their audio (`metrics.synchrony`), computed and kept as features are.

All samples are compared over one duration and at one frame rate: the shortest duration that audio and video have in
common, at most a limit, and the frame rate of the first video. So no sample is filled up by still frames or silence.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.source import available_cores
from codi_jax.evaluation.networks import Features
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.videos import as_file, rate_and_side, seconds_of
from codi_jax.media import files
from codi_jax.metrics.onsets import MEL
from codi_jax.metrics.synchrony import strengths

SYNCHRONY = ("audio", "video")
RATE = MEL.sample_rate


@dataclasses.dataclass(frozen=True)
class MotionFeatures:
    """Strengths of motion and onsets; see `FeatureNetwork`, of whose rows one is a sample over time.

    Attributes:
      frame_rate: frames per second.
      frames: T.
      side: of the frames, pixels.
    """

    frame_rate: float
    frames: int
    side: int

    modalities = ("+".join(SYNCHRONY),)
    features = ("flow", "still", "onset")
    joint = False
    identity = ""

    @classmethod
    def of_samples(cls, contents: Sequence[Sequence[Content]], limit: float) -> "MotionFeatures":
        """The settings that fit all samples.

        Args:
          contents: audio and video of each sample.
          limit: longest duration, seconds.

        Raises:
          ConfigError: a file cannot be read, or a sample is shorter than two frames.
        """
        rate, side = rate_and_side(contents[0][1])
        with ThreadPoolExecutor(available_cores(), "read") as pool:
            shortest = min(limit, *pool.map(seconds_of, (content for pair in contents for content in pair)))
        frames = int(shortest * rate + 1e-3)
        if frames < 2:
            raise ConfigError(
                f"audio and video of the samples have {shortest:.3g} s in common, less than two frames at {rate:g} a "
                "second; leave out the metrics av_align and lag_curve, or the samples that are too short"
            )
        return cls(rate, frames, side)

    @property
    def options(self) -> Mapping[str, Any]:
        """As JSON types."""
        return {**dataclasses.asdict(self), "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        """The duration that is compared."""
        return self.frames / self.frame_rate

    def read(self, modality: str, content: Any) -> list[np.ndarray]:
        """Strengths of one sample; most of the work, which is on the host, is done here by several threads."""
        audio, video = content
        frames = files.read_video(as_file(video), self.frames, self.frame_rate, self.side)
        wave = files.read_audio(audio, round(self.seconds * RATE), RATE)
        return [x[0] for x in strengths(frames[None], self.frame_rate, wave[None], RATE)]

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        return {name: [x[i] for x in inputs] for i, name in enumerate(self.features)}
