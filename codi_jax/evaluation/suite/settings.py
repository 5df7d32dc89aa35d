"""What a user may choose of a suite."""

from codi_jax.config import ConfigError, config_class


@config_class()
class SuiteConfig:
    """Settings of a suite.

    Attributes:
      n: samples of each data set; all if it has fewer.
      seed: of all draws: samples, captions and noise.
      batch_size: samples that are generated at a time.
      tasks: names of tasks; all for whose data sets there is a path if empty.
    """

    n: int = 1000
    seed: int = 0
    batch_size: int = 32
    tasks: tuple[str, ...] = ()

    def __post_init__(self):
        if self.n < 1 or self.batch_size < 1:
            raise ConfigError(f"n and batch size: expected at least 1, got {self.n} and {self.batch_size}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed: expected 0 to 2³¹ - 1, got {self.seed}")
