"""The prompt encoders of a CoDi model as a feature network: one unit vector for a sample of any of its modalities.

Bridging alignment has trained them into one space, and so have CLIP and CLAP theirs: `codi-jax convert` puts their
weights into a run, which then measures CLIPSIM, the CLAP score and SIM. A value is preprocessed as a prompt is.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from codi_jax import loading
from codi_jax.config import ConfigError
from codi_jax.evaluation.networks import RANDOM, Features, register
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.sampling.prompts import PromptWarning


class TowerFeatures:
    """See `FeatureNetwork`.

    Args:
      weights: what `codi_jax.load` takes.
      settings: of the measurement.

    Raises:
      ConfigError: there is no such model.
    """

    features = ("embedding",)
    joint = True

    def __init__(self, weights: str, settings: Settings):
        if weights.partition(":")[0] == RANDOM:
            raise ConfigError(f"networks: tower={weights}: a tower has the weights of a model; expected its name")
        self._pipeline = loading.load(weights)
        self.modalities = self._pipeline.modalities
        self.identity = loading.identity(weights)
        self.options: dict[str, Any] = {}

    def read(self, modality: str, content: Content) -> Any:
        of = self._pipeline.codi[modality]
        return of.user_from_raw(of.raw_from_user(content))

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)  # of every batch; what is not read does not count
            return {"embedding": list(self._pipeline.embed({modality: list(inputs)})[modality])}


@register("tower")
def open_tower(weights: str, settings: Settings) -> TowerFeatures:
    """Opens the network."""
    return TowerFeatures(weights, settings)
