"""The CoDi release: which keys of its four files belong to which of our components.

    autokl.              vision_codec          model.diffusion_model.unet_image.   vision_unet and, from the same keys
    audioldm.            audio_codec           model.diffusion_model.unet_audio.   under `connecters_out` and
    audioldm.vocoder.    vocoder               model.diffusion_model.unet_text.    `…_connecters_in`, V and X
    optimus.             text_codec
    clip.model.          clip_text, clip_vision
    clap.model.          clap_audio

Every key is of exactly one kind: a leaf of a component, an alias (a tied copy of a leaf), recomputed (a buffer that the
model computes) or unread (a weight that nothing uses); any other key is an error. Where image and video have separate
environment encoders, both are read from the single one of the release.

Latents are scaled as in the release, and prompt embeddings are not centred.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import autokl, clap, clip, hifigan, optimus, unet
from codi_jax.interop.names import NameTable, Rule, flatten
from codi_jax.modalities.base import PARTS, TIMING

# The factors by which the release multiplies latents.
SCALES = {"image": 0.18215, "video": 0.18215, "audio": 0.9228, "text": 4.3108}

_UNETS = "model.diffusion_model.unet_"


def _under(prefix: str, patterns: Mapping[str, str]) -> dict[str, str]:
    """Patterns of keys below a prefix, turned into patterns of whole keys."""
    return {re.escape(prefix) + pattern: why for pattern, why in patterns.items()}


RECOMPUTED = {
    r"(betas|(alphas|sqrt|log|posterior)_.*)": "the noise schedule, which is computed",
    **_under("audioldm.", autokl.RECOMPUTED),
    **_under("optimus.", optimus.RECOMPUTED),
    **_under("clip.model.", clip.RECOMPUTED),
    **_under("clap.model.", clap.RECOMPUTED),
}
UNREAD = {
    **_under("clip.model.", {**clip.UNREAD, **clip.UNREAD_SCALE}),
    **_under("clap.model.", clap.UNREAD),
}
# For models without video.
_TEMPORAL = {
    rf"{_UNETS}image\..*\.(temporal_attn|temporal_rel_pos_bias|ff\.proj_(in|out)|frameshiftblock)\..*": (
        "a temporal layer, which a model without video does not have"
    ),
    r"clip\.model\.vision_model\.encoder\.layers\.[0-9]+\.temporal_self_attn\..*": (
        "a temporal layer, which a model without video does not have"
    ),
}

# File -> prefixes of its keys.
FILES = {
    "CoDi_encoders.pth": ("autokl.", "optimus.", "audioldm.", "clip.", "clap."),
    "CoDi_text_diffuser.pth": (f"{_UNETS}text.",),
    "CoDi_audio_diffuser_m.pth": (f"{_UNETS}audio.",),
    "CoDi_video_diffuser_8frames.pth": (f"{_UNETS}image.",),
}

ROOTS = tuple(root for roots in FILES.values() for root in roots)  # prefixes of all keys of the release

Kind = Literal["leaf", "alias", "recomputed", "unread", "unexpected", "elsewhere"]


@dataclasses.dataclass(frozen=True)
class ReleaseComponent:
    """One component in the release.

    Attributes:
      component: its name in our model.
      modality: a modality that has the component, used to trace its shapes.
      role: its role in the modality.
      prefix: prefix of its keys.
      rules: name table for the keys without the prefix.
      optional: patterns of our paths that are absent or have another shape in files from before August 2023.
    """

    component: str
    modality: str
    role: str
    prefix: str
    rules: tuple[Rule, ...]
    optional: tuple[str, ...] = ()


_CODECS: dict[str, tuple[str, list[Rule]]] = {
    "text": ("optimus.", optimus.RULES),
    "image": ("autokl.", autokl.RULES),
    "video": ("autokl.", autokl.RULES),
    "audio": ("audioldm.", autokl.RULES),
}
_PROMPTS: dict[str, tuple[str, list[Rule]]] = {
    "text": ("clip.model.", clip.TEXT),
    "image": ("clip.model.", clip.VISION),
    "video": ("clip.model.", clip.VISION),
    "audio": ("clap.model.", clap.RULES),
}


def parts(codi: CoDi) -> dict[str, ReleaseComponent]:
    """Every component of the model in the release.

    Raises:
      ConfigError: the model has a modality that the release does not have.
    """
    if unknown := [name for name in codi.modalities if name not in _CODECS]:
        raise ConfigError(f"the release has no {', '.join(unknown)}; it has {', '.join(_CODECS)}")
    out = {}
    for component, (name, role) in codi.component_names().items():
        if role in (TIMING, PARTS):  # which are not in the release
            continue
        vision = name in ("image", "video")
        # Image and video share one U-Net file, whose layers are numbered as in the video U-Net.
        config = codi["video" if vision and "video" in codi.modalities else name].config
        optional: tuple[str, ...] = ()
        if role == "codec":
            prefix, rules = _CODECS[name]
        elif role == "prompt":
            prefix, rules = _PROMPTS[name]
        elif role == "vocoder":
            prefix, rules = "audioldm.vocoder.", hifigan.RULES
        else:
            prefix = f"{_UNETS}{'image' if vision else name}."
            if role == "denoiser":
                rules = unet.body_rules(config.denoiser)
            elif role == "environment":
                rules, optional = unet.environment_rules(config.environment), ("head/.*",)
            else:
                rules = unet.cross_rules(config.denoiser)
                optional = (".*/cross/(key|value)/kernel",) if name == "audio" else ()
        out[component] = ReleaseComponent(component, name, role, prefix, tuple(rules), optional)
    return out


class Reader:
    """Assigns keys of the release to the components of a model.

    Attributes:
      parts: component -> its `ReleaseComponent`.
      leaves: component -> our path -> shape and dtype.
    """

    def __init__(self, codi: CoDi):
        self.codi, self.parts = codi, parts(codi)
        self.leaves = {c: flatten(codi.shapes(c)) for c in self.parts}
        self._tables = {c: NameTable(part.rules, "theirs", "ours") for c, part in self.parts.items()}
        unread = UNREAD if "video" in codi.modalities else {**_TEMPORAL, **UNREAD}
        reasons: tuple[tuple[Kind, Mapping[str, str]], ...] = (("recomputed", RECOMPUTED), ("unread", unread))
        self._patterns: tuple[tuple[Kind, dict[re.Pattern, str]], ...] = tuple(
            (kind, {re.compile(p): why for p, why in patterns.items()}) for kind, patterns in reasons
        )

    def owners(self, key: str) -> dict[str, tuple[str, bool]]:
        """The components that have a key: component -> (our path, whether it is an alias)."""
        owners = {}
        for component, part in self.parts.items():
            if not key.startswith(part.prefix):
                continue
            for rule, path in self._tables[component].matches(key.removeprefix(part.prefix))[:1]:
                if path in self.leaves[component]:
                    owners[component] = path, rule.tied
        return owners

    def kind(self, key: str) -> tuple[Kind, str]:
        """The kind of a key, and its component/path or the reason why it is not read."""
        if owners := self.owners(key):
            component, (path, tied) = next(iter(owners.items()))
            return ("alias" if tied else "leaf"), f"{component}/{path}"
        for kind, patterns in self._patterns:
            for pattern, why in patterns.items():
                if pattern.fullmatch(key):
                    return kind, why
        ours = any(key.startswith(part.prefix) for part in self.parts.values())
        if not ours and key.startswith(ROOTS):
            return "elsewhere", "of a modality that this model does not have"
        return "unexpected", "not in the model of the config"

    def split(self, keys: Iterable[str]) -> tuple[dict[str, list[str]], dict[Kind, dict[str, str]]]:
        """Component -> its keys; and kind -> key -> reason, for keys that no component reads."""
        by_component: dict[str, list[str]] = {}
        others: dict[Kind, dict[str, str]] = {}
        for key in keys:
            owners = self.owners(key)
            for component in owners:
                by_component.setdefault(component, []).append(key)
            if not owners:
                kind, why = self.kind(key)
                others.setdefault(kind, {})[key] = why
        return by_component, others


def constants(codi: CoDi, component: str) -> dict[str, Any]:
    """The constants of a component in the release; {} if it has none."""
    name, role = codi.component_names()[component]
    default: Mapping[str, Any] = codi[name].default_constants().get(component, {})
    if role == "codec":
        return {"shift": default["shift"], "scale": np.full_like(default["scale"], SCALES[name])}
    return dict(default)
