"""The settings of the benchmark."""

from codi_jax import digit_world
from codi_jax.config import ConfigError, config_class
from codi_jax.digit_world.benchmark import mixing
from codi_jax.digit_world.benchmark.floors import FloorsConfig
from codi_jax.packaged import DEFAULT


@config_class()
class EvaluateConfig:
    """`config.evaluate`.

    Attributes:
      n: number of samples of every direction and of every set of outputs; they are generated in one batch.
      seen: the source of test samples with combinations of factors that were trained on.
      held_out: the source of test samples with combinations held out of training; None if there are none.
      validation: the source of validation samples, on which settings are chosen (`--split=val`); None if there is none.
      factors: factors of the world to evaluate, those that the captions of this run describe.
      combinations: number of samples of every cell of (set of prompts) x (set of outputs); 0 skips them. The floor of
        their mean needs 32.
      mixes: mix-weight curves, each "A|B->C": conflicting prompts in A and B, output C; see `benchmark.mixing`.
      pretrained: maximum number of samples of every direction and set of outputs that the outside judges read
        (`benchmark.outside`), if they are installed; 0 skips them. Combinations are not read. Whisper takes 0.02 to
        0.03 s of a core for an audio, PP-OCR 0.003 s for an image: with n = 256 and four modalities some 2 minutes,
        nearly all of them for the 18 x 256 audio of codecs, directions, sets and real samples.
      judges: the package of the judges and similarity towers: the name of a packaged model, or a folder written by
        `codi-jax package`.
      neighbours: maximum number of training samples of every pool of a denoiser, among which the nearest one to each
        output is found, see `benchmark.memory`; 0 skips them.
      reference: number of further samples of `seen`, the reference of the Fréchet distance.
      floors: the smallest acceptable metrics, see `benchmark.floors`; without them there is no verdict.
      seed: of the draws, see `benchmark.settings`; the seed of the training does not change them.
    """

    n: int = 256
    seen: str = "test_seen"
    held_out: str | None = None
    validation: str | None = "val"
    factors: tuple[str, ...] = tuple(digit_world.FACTORS)
    combinations: int = 8
    mixes: tuple[str, ...] = ()
    pretrained: int = 256
    judges: str = DEFAULT
    neighbours: int = 0
    reference: int = 1024
    floors: FloorsConfig | None = None
    seed: int = 0

    def __post_init__(self):
        if self.n < 4 or self.reference < 2:
            raise ConfigError(f"config.evaluate: expected n >= 4 and reference >= 2, got {self.n} and {self.reference}")
        if not 0 <= self.combinations <= self.n:
            raise ConfigError(f"config.evaluate.combinations: {self.combinations} is not between 0 and n = {self.n}")
        if digit_world.LEADING not in self.factors:
            raise ConfigError(
                f"config.evaluate.factors: {digit_world.LEADING!r}, which every modality shows, must be one of them"
            )
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"config.evaluate.seed: expected 0 or more and at most 64 bits, got {self.seed}")
        for name in ("pretrained", "neighbours"):
            if (number := getattr(self, name)) < 0:
                raise ConfigError(f"config.evaluate.{name}: {number} is negative; 0 skips it")
        if self.mixes and self.n < len(mixing.WEIGHTS):
            raise ConfigError(f"config.evaluate.mixes: a curve needs n >= {len(mixing.WEIGHTS)}, got {self.n}")
