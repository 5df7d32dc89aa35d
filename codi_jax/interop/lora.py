"""Files of LoRA adapters (`nn.lora`): safetensors in the layouts of PEFT, diffusers and kohya's scripts.

Of a layer, MODULE is its name in the public checkpoint of its network, where it has one: that of diffusers' U-Net for
`vision_unet` (prefix `unet`), that of transformers' CLIP for `clip_text` (prefix `text_encoder`). Of all others it is
the path of our parameters, and the prefix is the component.

    PREFIX.MODULE.lora_A.weight, PREFIX.MODULE.lora_B.weight      diffusers; this is what is written
    PREFIX.MODULE.lora.down.weight, ….lora.up.weight              diffusers, also with lora_linear_layer for lora
    base_model.model.MODULE.lora_A.weight, …                      PEFT, beside its adapter_config.json
    lora_PREFIX_MODULE.lora_down.weight, ….lora_up.weight         kohya: MODULE with _ for dots, `te` for `text_encoder`

A is [r, I] or [r, I, H, W], B is [O, r] or [O, r, 1, 1]. alpha is that of `….alpha` (kohya), of the header's
`lora_adapter_metadata` (diffusers) or of adapter_config.json; else it is r. It is written into B, since diffusers
accepts no tensors of alpha and without them multiplies by 1.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codi_jax import storage
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, did_you_mean
from codi_jax.interop import clip
from codi_jax.interop.diffusers_names import unet_rules
from codi_jax.interop.mapped import map_file, plain
from codi_jax.interop.names import LAYOUTS, NameTable, Rule, finite
from codi_jax.interop.safetensors_file import is_safetensors, read_metadata, read_safetensors
from codi_jax.modalities.base import SIZES
from codi_jax.nn import lora
from codi_jax.parallel import paths
from codi_jax.types import Params

NAME = "pytorch_lora_weights.safetensors"  # where diffusers looks for it in a folder
NAMES = (NAME, "adapter_model.safetensors")  # of diffusers and of PEFT
SETTINGS = "adapter_config.json"
METADATA = "lora_adapter_metadata"
_PEFT = "base_model.model"
_MAX_CONFIG = 1 << 20  # bytes of adapter_config.json

# Component -> prefix in diffusers, prefix in kohya's files, config of the component -> its table.
_PUBLIC: dict[str, tuple[str, str, Callable[[Any], list[Rule]]]] = {
    "vision_unet": ("unet", "lora_unet", unet_rules),
    "clip_text": ("text_encoder", "lora_te", lambda config: clip.TEXT),
}
_SIDES = {"lora_A": "a", "lora_B": "b", "down": "a", "up": "b", "lora_down": "a", "lora_up": "b"}
_KEY = re.compile(r"(.+?)\.(?:(lora_[AB]|lora_down|lora_up)|(?:lora|lora_linear_layer)\.(down|up))\.weight")
# The layout of a kernel in a public checkpoint, which A has, too -> that of B, whose kernel size is 1.
_LAYOUT_OF_B = {
    "linear": "linear", "matrix_1x1": "linear", "conv1d": "pointwise1", "conv2d": "pointwise2",
    "pointwise1": "pointwise1", "pointwise2": "pointwise2", "pointwise3": "pointwise3",
}  # fmt: skip


class _Site(NamedTuple):
    """A layer in files: our path without `/kernel`, its prefixes in diffusers and kohya's files, its module, layout."""

    path: str
    prefix: str
    kohya: str
    module: str
    layout: str


def _sites(codi: CoDi, wanted: Callable[[str, str, str], bool]) -> list[_Site]:
    """The layers that can have adapters, of the components of which wanted(component, prefix, prefix of kohya)."""
    out = []
    for component, (name, role) in codi.component_names().items():
        prefix, kohya, rules = _PUBLIC.get(component, (component, "", None))
        if not wanted(component, prefix, kohya):
            continue
        table = NameTable([], "ours", "theirs")
        try:
            config = getattr(codi[name].config, SIZES.get(role, role), None)
            table = NameTable(rules(config) if rules else [], "ours", "theirs")
        except ConfigError:  # a network that the public layout does not have
            pass
        for path, kernel in lora.kernels({component: codi.shapes(component)}).items():
            site = path.removesuffix("/kernel")
            inner = site.removeprefix(f"{component}/")
            match = next((m for m in table.matches(f"{inner}/kernel") if m[0].layout in _LAYOUT_OF_B), None)
            if match is not None:
                out.append(_Site(site, prefix, kohya, match[1].removesuffix(".weight"), match[0].layout))
            elif (ndim := len(kernel.shape)) <= 4:
                layout = {2: "linear", 3: "conv1d", 4: "conv2d"}[ndim]
                out.append(_Site(site, component, "", inner.replace("/", "."), layout))
    return out


def _aliases(codi: CoDi, keys: Iterable[str]) -> dict[str, tuple[_Site, str]]:
    """What precedes the matrices' names in keys of files -> the layer, and the prefix whose metadata count for it.

    Of components of which no key can be only some are listed, since tracing a network takes a second.
    """
    out: dict[str, tuple[_Site, str]] = {}
    heads = {key.split(".")[0] for key in keys}

    def wanted(component: str, prefix: str, kohya: str) -> bool:
        in_kohya = kohya and any(head.startswith(f"{kohya}_") for head in heads)
        return bool(in_kohya or {component, prefix} & heads or (kohya and _PEFT.split(".")[0] in heads))

    for site in _sites(codi, wanted):
        out[f"{site.prefix}.{site.module}"] = site, site.prefix
        if site.kohya:
            out.setdefault(f"{_PEFT}.{site.module}", (site, ""))
            out[f"{site.kohya}_{site.module.replace('.', '_')}"] = site, "kohya"
    return out


def to_state(codi: CoDi, adapters: Params) -> dict[str, np.ndarray]:
    """The tensors of a file: {key: array}, with alpha / r in B.

    Args:
      codi: the model.
      adapters: a tree of adapters of it.

    Raises:
      ConfigError: an adapter does not fit the model, or its layer cannot be named.
    """
    lora.check({c: codi.shapes(c) for c in adapters if c in codi.component_names()}, adapters, "adapters")
    named = {site.path: site for site in _sites(codi, lambda component, *_: component in adapters)}
    flat, out = paths.flatten(adapters), {}
    for path in lora.sites(flat):
        if path not in named:
            raise ConfigError(f"adapters: the layers of {path} have no layout in files")
        site = named[path]
        a, b, alpha = (np.asarray(flat[f"{path}/{leaf}"], np.float32) for leaf in lora.LEAVES)
        b = b * np.float32(alpha / len(b))
        for side, x, layout in (("A", a, site.layout), ("B", b, _LAYOUT_OF_B[site.layout])):
            theirs = LAYOUTS[layout].to_theirs(x)
            out[f"{site.prefix}.{site.module}.lora_{side}.weight"] = np.asarray(theirs, order="C")
    return out


def write(codi: CoDi, adapters: Params, path: Path) -> int:
    """Writes a tree of adapters as diffusers reads it; returns the number of tensors. For errors see `to_state`."""
    from safetensors.numpy import save

    tensors = to_state(codi, adapters)
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, {"format": "pt"}))
    return len(tensors)


def from_state(codi: CoDi, state: Mapping[str, np.ndarray], alphas: Mapping[str, float] | None = None) -> Params:
    """The tree of adapters of a file's tensors, in any of the layouts above.

    Args:
      codi: the model.
      state: key -> array.
      alphas: prefix ("" for PEFT) -> alpha of the layers without a tensor of it; r for those not given.

    Raises:
      ConfigError: a key is unknown or a tensor does not fit; the message names the first.
    """
    aliases, found = _aliases(codi, state), {}
    for key, value in state.items():
        match = _KEY.fullmatch(key)
        name, leaf = (match[1], _SIDES[match[2] or match[3]]) if match else (key.removesuffix(".alpha"), "alpha")
        if name not in aliases or (not match and not key.endswith(".alpha")):
            hint = did_you_mean(name, aliases) if match else ""
            raise ConfigError(f"{plain(key)} is no adapter of a layer of this model{hint}")
        site, prefix = aliases[name]
        parts = found.setdefault(site.path, {"prefix": prefix})
        if leaf in parts:
            raise ConfigError(f"{plain(key)}: there are two adapters of {site.path}")
        try:
            layout = LAYOUTS[_LAYOUT_OF_B[site.layout] if leaf == "b" else site.layout]
            parts[leaf] = np.asarray(value if leaf == "alpha" else layout.to_ours(value), np.float32)
        except (ValueError, IndexError):
            raise ConfigError(f"{plain(key)} {list(value.shape)} does not have the layout of {site.path}") from None
        if (leaf == "alpha" and parts[leaf].size != 1) or not finite(parts[leaf]):
            raise ConfigError(f"{plain(key)}: expected {'one number' if leaf == 'alpha' else 'finite numbers'}")
    flat = {}
    for path, parts in found.items():
        if missing := {"a", "b"} - parts.keys():
            raise ConfigError(f"the adapter of {path} lacks {' and '.join(sorted(missing)).upper()}")
        alpha = (alphas or {}).get(parts["prefix"], len(parts["b"]))
        alpha = np.array(parts["alpha"].item() if "alpha" in parts else alpha, np.float32)
        flat |= {f"{path}/{leaf}": x for leaf, x in zip(lora.LEAVES, (parts["a"], parts["b"], alpha), strict=True)}
    adapters = paths.nest(flat)
    lora.check({c: codi.shapes(c) for c in adapters}, adapters, "adapters")
    return adapters


def _alpha(tree: Any, prefix: str, where: str) -> float:
    """alpha of the settings of one network's adapters.

    Raises:
      ConfigError: they are malformed, or of a kind of adapters that is not supported.
    """
    of_network = {key.removeprefix(prefix): value for key, value in tree.items() if key.startswith(prefix)}
    for unsupported in ("alpha_pattern", "use_dora", "use_rslora", "lora_bias"):
        if of_network.get(unsupported):
            raise ConfigError(f"{where}: adapters with {unsupported} are not supported")
    match of_network.get("lora_alpha"):
        case bool():
            pass
        case int() | float() as alpha if 0 < alpha < 1e6:
            return float(alpha)
    raise ConfigError(f"{where}: lora_alpha is no positive number")


def _alphas(path: Path, metadata: Mapping[str, str], peft: bool) -> dict[str, float]:
    """Prefix -> alpha, from the header of a file and from the settings beside it."""
    out, settings = {}, path.parent / SETTINGS
    try:
        if METADATA in metadata:
            tree = dict(json.loads(metadata[METADATA]))
            prefixes = dict.fromkeys(key.split(".")[0] for key in tree if key.endswith(".lora_alpha"))
            out = {prefix: _alpha(tree, f"{prefix}.", METADATA) for prefix in prefixes}
        if peft:
            if not settings.exists() or settings.stat().st_size > _MAX_CONFIG:
                raise ConfigError("a file of PEFT needs its adapter_config.json beside it, for alpha")
            out[""] = _alpha(dict(json.loads(settings.read_text())), "", settings.name)
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, RecursionError):
        raise ConfigError("the settings of its adapters are not JSON") from None
    return out


def read(codi: CoDi, path: Path) -> Params:
    """Reads a file of adapters.

    Args:
      codi: the model.
      path: of a safetensors file in any of the layouts above.

    Returns:
      The tree of adapters, of numpy arrays in float32.

    Raises:
      ConfigError: one line that names the file and the problem: it is damaged or no safetensors file, a key is unknown,
        a tensor does not fit the model.
    """
    try:
        data = map_file(path)
        if not is_safetensors(data[:16].tobytes()):
            raise ConfigError("not a safetensors file; adapters are read from no other format")
        state = read_safetensors(data)
        peft = any(key.startswith(f"{_PEFT}.") for key in state)
        return from_state(codi, state, _alphas(path, read_metadata(data), peft))
    except ConfigError as error:
        raise ConfigError(f"{plain(str(path))}: {error}") from None
