"""The CoDi release: which keys of its four files are which components of ours.

    autokl.              vision_codec          model.diffusion_model.unet_image.   vision_unet and, from the same keys
    audioldm.            audio_codec           model.diffusion_model.unet_audio.   under `connecters_out` and
    audioldm.vocoder.    vocoder               model.diffusion_model.unet_text.    `…_connecters_in`, V and X
    optimus.             text_codec
    clip.model.          clip_text, clip_vision
    clap.model.          clap_audio

A key is exactly one of four things: a leaf of some component, an alias (a tied copy of a leaf), recomputed (a buffer
that the model makes by itself) or unread (a weight that nothing ever reads); anything else is an error. Where picture
and clip have environment encoders of their own, both are read from the one that the release has.

Latents are scaled as the release scales them, and prompts are not centred.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from flax import traverse_util

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError
from codi_jax.interop import autokl, clap, clip, hifigan, optimus, unet
from codi_jax.interop.names import NameTable, Rule

# By what the release multiplies a latent.
SCALES = {"image": 0.18215, "video": 0.18215, "audio": 0.9228, "text": 4.3108}

_UNETS = "model.diffusion_model.unet_"


def _under(prefix: str, patterns: Mapping[str, str]) -> dict[str, str]:
    """Patterns of whole keys from those of keys below a prefix."""
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
# Without video in the model.
_TEMPORAL = {
    rf"{_UNETS}image\..*\.(temporal_attn|temporal_rel_pos_bias|ff\.proj_(in|out)|frameshiftblock)\..*": (
        "a temporal layer, which a model without clips has not"
    ),
    r"clip\.model\.vision_model\.encoder\.layers\.[0-9]+\.temporal_self_attn\..*": (
        "a temporal layer, which a model without clips has not"
    ),
}

# The files, and what keys begin with in each.
FILES = {
    "CoDi_encoders.pth": ("autokl.", "optimus.", "audioldm.", "clip.", "clap."),
    "CoDi_text_diffuser.pth": (f"{_UNETS}text.",),
    "CoDi_audio_diffuser_m.pth": (f"{_UNETS}audio.",),
    "CoDi_video_diffuser_8frames.pth": (f"{_UNETS}image.",),
}

ROOTS = tuple(root for roots in FILES.values() for root in roots)  # what the keys of the release begin with

Kind = Literal["leaf", "alias", "recomputed", "unread", "unexpected", "elsewhere"]


@dataclasses.dataclass(frozen=True)
class ReleaseComponent:
    """One component in the release.

    Attributes:
      component: ours.
      modality: one that has it, the one by which it is traced.
      role: of it there.
      prefix: of its keys.
      rules: names of the keys without the prefix.
      optional: patterns of our paths that files of before August 2023 lack or have in another shape.
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
    """The release's place of every component of the model.

    Raises:
      ConfigError: a modality that the release does not have.
    """
    if unknown := [name for name in codi.modalities if name not in _CODECS]:
        raise ConfigError(f"the release has no {', '.join(unknown)}; it has {', '.join(_CODECS)}")
    out = {}
    for component, (name, role) in codi.component_names().items():
        vision = name in ("image", "video")
        # One U-Net file serves picture and clip, and its layers are numbered as the clip has them.
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
    """Sorts keys of the release for one model.

    Attributes:
      parts: component -> its place.
      leaves: component -> our path -> shape and dtype.
    """

    def __init__(self, codi: CoDi):
        self.codi, self.parts = codi, parts(codi)
        self.leaves = {c: traverse_util.flatten_dict(codi.shapes(c), sep="/") for c in self.parts}
        self._tables = {c: NameTable(part.rules, "theirs", "ours") for c, part in self.parts.items()}
        unread = UNREAD if "video" in codi.modalities else {**_TEMPORAL, **UNREAD}
        self._patterns: tuple[tuple[Kind, dict[re.Pattern, str]], ...] = tuple(
            (kind, {re.compile(p): why for p, why in patterns.items()})
            for kind, patterns in (("recomputed", RECOMPUTED), ("unread", unread))
        )

    def owners(self, key: str) -> dict[str, tuple[str, bool]]:
        """The components that hold a key: component -> (our path, whether it is an alias)."""
        found = {}
        for component, part in self.parts.items():
            if not key.startswith(part.prefix):
                continue
            for rule, path in self._tables[component].matches(key.removeprefix(part.prefix))[:1]:
                if path in self.leaves[component]:
                    found[component] = path, rule.tied
        return found

    def kind(self, key: str) -> tuple[Kind, str]:
        """What a key is, and for one that is not read why."""
        if found := self.owners(key):
            component, (path, tied) = next(iter(found.items()))
            return ("alias" if tied else "leaf"), f"{component}/{path}"
        for kind, patterns in self._patterns:
            for pattern, why in patterns.items():
                if pattern.fullmatch(key):
                    return kind, why
        ours = any(key.startswith(part.prefix) for part in self.parts.values())
        if not ours and key.startswith(ROOTS):
            return "elsewhere", "of a modality that this model has not"
        return "unexpected", "nothing of this name in the model of the config"

    def split(self, keys: Iterable[str]) -> tuple[dict[str, list[str]], dict[Kind, dict[str, str]]]:
        """Component -> its keys; and kind -> key -> why, of what no component reads."""
        mine: dict[str, list[str]] = {}
        others: dict[Kind, dict[str, str]] = {}
        for key in keys:
            found = self.owners(key)
            for component in found:
                mine.setdefault(component, []).append(key)
            if not found:
                kind, why = self.kind(key)
                others.setdefault(kind, {})[key] = why
        return mine, others


def constants(codi: CoDi, component: str) -> dict[str, Any]:
    """The constants of a component in the release, {} if it has none."""
    name, role = codi.component_names()[component]
    default: Mapping[str, Any] = codi[name].default_constants().get(component, {})
    if role == "codec":
        return {"shift": default["shift"], "scale": np.full_like(default["scale"], SCALES[name])}
    return dict(default)
