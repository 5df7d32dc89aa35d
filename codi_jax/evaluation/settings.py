"""What a user may choose of a measurement."""

from codi_jax.config import ConfigError, config_class


@config_class()
class Settings:
    """Settings of a measurement.

    Attributes:
      metrics: names of the metrics; all that apply if empty.
      batch_size: samples, or frames of videos, of one call of a network.
      seconds: audio is measured up to this length, and so is what audio and video have in common.
      frames: of a video that networks of images see, from its start at its own rate.
      resamples: of bootstrap intervals; 0 for none. None for 200 where that is affordable, see `measures.base`.
      seed: of random weights, bootstrap draws and subsets.
    """

    metrics: tuple[str, ...] = ()
    batch_size: int = 32
    seconds: float = 10.0
    frames: int = 16
    resamples: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.batch_size < 1 or self.frames < 1 or not 0 < self.seconds <= 3600:
            raise ConfigError(
                "expected a batch size and a number of frames of at least 1, and from 0 to 3600 seconds; "
                f"got {self.batch_size}, {self.frames} and {self.seconds}"
            )
        if self.resamples is not None and self.resamples != 0 and not 2 <= self.resamples <= 100_000:
            raise ConfigError(f"resamples: expected 0 for no intervals, or 2 to 100000, got {self.resamples}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed: expected 0 to 2³¹ - 1, got {self.seed}")
