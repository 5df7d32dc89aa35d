"""The prompt encoders of a CoDi model as a feature network: one unit vector for a sample of any of its modalities.

Bridging alignment has trained them into one space, and so have CLIP and CLAP theirs: `codi-jax convert` puts their
weights into a run, which then measures CLIPSIM, the CLAP score and SIM. A value is preprocessed as a prompt is.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codi_jax import __version__, loading, packaged, storage
from codi_jax.config import ConfigError
from codi_jax.evaluation.networks import RANDOM, Features, register
from codi_jax.evaluation.samples import Content
from codi_jax.evaluation.settings import Settings
from codi_jax.media.files import MediaFile
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
        self.identity = _identity(weights)
        self.options: dict[str, Any] = {}

    def read(self, modality: str, content: Content) -> Any:
        part = isinstance(content, MediaFile)
        if part and (content.start or content.duration is not None):
            raise ConfigError(f"{content.name}: a tower reads whole files, but the table names a part of it")
        value = (content.name if content.data is None else content.data) if part else content
        of = self._pipeline.codi[modality]
        return of.user_from_raw(of.raw_from_user(value))

    def __call__(self, modality: str, inputs: Sequence[Any]) -> Features:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptWarning)  # of every batch; what is not read does not count
            return {"embedding": list(self._pipeline.embed({modality: list(inputs)})[modality])}


def _identity(weights: str) -> str:
    """Of a packaged model its name and version; else a digest of the files of the model and their times of change."""
    if weights in packaged.MODELS:
        return f"{weights}, packaged with codi_jax {__version__}"
    path = storage.as_path(weights)
    listed = storage.listing(path)
    local = not storage.is_remote(path)
    rows = [[name, file.bytes, file.etag, _time(path / name) if local else 0] for name, file in sorted(listed.items())]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


@register("tower")
def open_tower(weights: str, settings: Settings) -> TowerFeatures:
    """Opens the network."""
    return TowerFeatures(weights, settings)
