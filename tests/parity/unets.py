"""Runs a golden U-Net subcase with our modules: layouts, weights, contexts and the connectivity of the release."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.interop import names
from codi_jax.interop.unet import (
    BODY,
    CROSS,
    ENVIRONMENT,
    body_rules,
    cross_rules,
    environment_rules,
    owned_by_others,
    unet_config_from_release,
)
from codi_jax.nn import CrossModalAttention, Denoiser, EnvironmentConfig, EnvironmentEncoder, UNet, UNetConfig
from codi_jax.nn.embeddings import timestep_embedding
from codi_jax.nn.layout import environment_steps, input_steps, output_steps
from codi_jax.types import Tokens
from tests.parity.golden import Case


def unet_of(modality: str) -> str:
    """The U-Net of the release for a modality."""
    return "unet_image" if modality in ("image", "video") else f"unet_{modality}"


def from_torch(x: np.ndarray) -> np.ndarray:
    """[B, C, ...] -> [B, ..., C]."""
    return np.moveaxis(x, 1, -1)


def to_torch(x: jax.Array) -> np.ndarray:
    """[B, ..., C] -> [B, C, ...]."""
    return np.moveaxis(np.asarray(x), -1, 1)


def features_to_torch(h: jax.Array, tokens: int) -> np.ndarray:
    """Features of any kind in the layout of the release, where a flat vector [B, C·S] is [B, C, S, 1]."""
    return np.asarray(h).reshape(h.shape[0], -1, tokens, 1) if h.ndim == 2 else to_torch(h)


@dataclasses.dataclass(frozen=True)
class Net:
    """A U-Net of the release: body and, if it has them, environment encoder and cross-modal attention of width E."""

    unet: UNetConfig
    environment: EnvironmentConfig | None
    width: int


def abstract(module, *args) -> dict:
    """The shapes of a module's parameters."""
    return jax.eval_shape(module.init, jax.random.key(0), *args)["params"]


def abstract_latent(config: UNetConfig) -> jax.ShapeDtypeStruct:
    """A latent with which all layers of a U-Net are initialised."""
    side = config.reduction
    shape = {"vector": (1,), "spatial": (1, 2, side, side) if config.temporal else (1, side, side)}[config.kind]
    return jax.ShapeDtypeStruct((*shape, config.latent_channels), jnp.float32)


def targets(unet: UNetConfig, environment: EnvironmentConfig | None, width: int) -> dict:
    """The shapes of the parameters of a U-Net file: 'unet', 'environment', 'cross'."""
    z, t = abstract_latent(unet), jax.ShapeDtypeStruct((1,), jnp.float32)
    context = jax.eval_shape(Tokens.of, jax.ShapeDtypeStruct((1, 1, unet.context_width), jnp.float32))
    if environment is None:
        return {"unet": abstract(UNet(unet), z, t, context)}
    tokens = jax.eval_shape(Tokens.of, jax.ShapeDtypeStruct((1, 1, width), jnp.float32))
    whole = abstract(Denoiser(unet, width), z, t, context, tokens)
    emb = jax.ShapeDtypeStruct((1, 4 * unet.channels), jnp.float32)
    return {**whole, "environment": abstract(EnvironmentEncoder(environment), z, emb)}


def tables(unet: UNetConfig, environment: EnvironmentConfig | None) -> dict:
    """The name tables of the parts, each with patterns of the keys of other parts."""
    parts = {"unet": (body_rules(unet), owned_by_others(BODY))}
    if environment is not None:
        parts["environment"] = (environment_rules(environment), owned_by_others(ENVIRONMENT))
        parts["cross"] = (cross_rules(unet), owned_by_others(CROSS))
    return parts


@functools.lru_cache(maxsize=8)
def load(case: Case, name: str) -> tuple[Net, dict]:
    """Converts the U-Net `name`, such as "unet_text", of a golden file, strictly.

    Returns:
      The network and its parameters, {'unet': ..., 'environment': ..., 'cross': ...}.
    """
    unet, environment, width = unet_config_from_release(case.config[f"{name}_cfg"])
    state = names.under(case.weights(), f"model.diffusion_model.{name}.")
    want = targets(unet, environment, width)
    params = {
        part: names.from_release(state, rules, want[part], ignore)
        for part, (rules, ignore) in tables(unet, environment).items()
    }
    return Net(unet, environment, width), jax.tree.map(jnp.asarray, params)


def context_of(inputs: dict[str, np.ndarray], subcase: dict) -> Tokens:
    """The convex combination of the tokens of the conditions, by `mix_weight` (equal if absent)."""
    weights = [(subcase.get("mix_weight") or {}).get(kind, 1) for kind in subcase["condition_types"]]
    total = sum(w * inputs[f"cond{k}"] for k, w in enumerate(weights)) / sum(weights)
    return Tokens.of(jnp.asarray(total, jnp.float32))


# With little optimization, since these programs are large and run once.
QUICK = {"xla_backend_optimization_level": 0}


def _kept(module, method: str) -> bool:
    """Whether to capture an output: those of direct children, and of every call of cross-modal attention."""
    return method == "__call__" and len(module.path) in (1, 2) and module.name not in ("unet", "attend")


def _captured(module, params, *args):
    out, state = module.apply({"params": params}, *args, capture_intermediates=_kept, mutable=["intermediates"])
    return out, state["intermediates"]


@functools.partial(jax.jit, static_argnames=("net", "alias_skip", "joint"), compiler_options=QUICK)
def _forward(net: Net, params: dict, z, t, context: Tokens, alias_skip: bool, joint: bool):
    """The prediction, environment token and intermediates of a modality that attends to itself if joint."""
    denoiser = Denoiser(net.unet, net.width if joint else None, alias_skip=alias_skip)
    token, stages, environment = None, {}, None
    if joint:
        emb = UNet(net.unet).apply({"params": params["unet"]}, t, method="embed_time")
        token, stages = _captured(EnvironmentEncoder(net.environment), params["environment"], z, emb)
        environment = Tokens.of(token)
    prediction, kept = _captured(denoiser, params, z, t, context, environment)
    return prediction, token, stages, kept


def _their_names(net: Net, stages: dict, kept: dict) -> dict[str, jax.Array]:
    """Intermediates by the reference's names."""
    out = {}
    for name, value in kept["unet"].items():
        side, _, i = name.partition("_")
        theirs = {"time": "time_embed", "middle": "middle_block", "inputs": f"input_blocks.{i}"}
        if side in theirs or side == "outputs":
            out[theirs.get(side, f"output_blocks.{i}")] = value["__call__"][0]
    for name, value in (item for item in stages.items() if item[0] != "__call__"):
        i = len(environment_steps(net.environment)) if name == "head" else name.removeprefix("stages_")
        out[f"connecters_out.{i}"] = value["__call__"][0]
    steps = [step for step in input_steps(net.unet) + output_steps(net.unet) if step.connect]
    for step, h in zip(steps, kept.get("cross", {}).get("__call__", ()), strict=False):
        side, i = step.place
        out[f"{side.removesuffix('s')}_block_connecters_in.{i}"] = h
    return out


def run(case: Case, subcase: dict, output: int) -> dict[str, np.ndarray]:
    """Computes one output modality of a subcase, with the connectivity of the release.

    Returns:
      All outputs that the file may have for it, intermediates included, by the file's names in PyTorch's layout.
    """
    modality, name = subcase["xtype"][output], subcase["name"]
    net, params = load(case, unet_of(modality))
    inputs, joint = case.inputs(name), len(subcase["xtype"]) > 1
    z, t = jnp.asarray(from_torch(inputs[f"x{output}"])), jnp.asarray(inputs["t"], jnp.int32)
    context = context_of(inputs, subcase)
    prediction, token, stages, kept = _forward(net, params, z, t, context, subcase["mode"] == "codi", joint)
    out = {f"{name}/eps{output}": to_torch(prediction)}
    if joint:
        out[f"{name}/h_con{output}"] = np.asarray(token)
    inter = f"{name}/inter/{modality}"
    out[f"{inter}/timestep_embedding"] = np.asarray(timestep_embedding(t, net.unet.channels))
    for key, h in _their_names(net, stages, kept).items():
        if key == "time_embed":
            out[f"{inter}/{key}"] = np.asarray(h)
        else:
            tokens = 1 if h.shape[-1] == net.width and key.startswith("connecters_out") else net.unet.vector_tokens
            out[f"{inter}/{key}"] = features_to_torch(h, tokens)
    return out


def probe(case: Case, subcase: dict) -> np.ndarray:
    """Applies one block of cross-modal attention."""
    (net, params), inputs = load(case, unet_of(subcase["unet"])), case.inputs(subcase["name"])
    place = "inputs" if subcase["list"].startswith("input") else "outputs", subcase["index"]
    h = inputs["h"]
    h = h.reshape(len(h), -1) if net.unet.kind == "vector" else from_torch(h)
    cross, context = CrossModalAttention(net.unet, net.width), Tokens.of(jnp.asarray(inputs["context"]))
    forward = jax.jit(lambda p: cross.apply({"params": p}, place, h, context), compiler_options=QUICK)
    return features_to_torch(forward(params["cross"]), net.unet.vector_tokens)
