"""A toy model of two modalities, the demo in its smallest sizes: random parameters without compiling, a recipe.

Latents are [16] for text and [2, 2, 4] for image; with all modalities also [2, 2, 4] for audio and [8, 2, 2, 4] for
video. No parameter is zero, unlike in an initialized network, whose last layers are zero.
"""

import dataclasses
import fcntl
import functools
import os
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codi_jax import packaged
from codi_jax.codi import CoDi
from codi_jax.config import from_dict
from codi_jax.digit_world.judges.network import Judge, JudgeConfig
from codi_jax.objectives.conditioning import Encoded
from codi_jax.parallel import paths
from codi_jax.train.recipe import Run, open_run, save_config
from codi_jax.train.trainer import train
from configs import digit_world

PAIR = ("text", "image")
EVERYTHING = ("text", "image", "audio", "video")
D = 16

# The cheapest compilation, since these programs take longer to compile than to run.
QUICK = {"xla_backend_optimization_level": 0}
JUDGE = {"factors": {"digit": 10, "colour": 6}, "channels": (8, 8), "features": 8}  # settings, of images

quick = functools.partial(jax.jit, compiler_options=QUICK)


def _with(tree: dict, changes: dict) -> dict:
    return {k: _with(v, changes) if isinstance(v, dict) else changes.get(k, v) for k, v in tree.items()}


def recipe(names: tuple[str, ...] = PAIR) -> dict:
    """The config of digit_world for these modalities with a few steps per stage, without encoders of parts."""
    tree = digit_world.get_config(f"tiny,modalities={'+'.join(names)}").to_dict()
    del tree["stages"]["parts"]
    for modality in tree["model"]["modalities"].values():
        if "reads_parts" in modality:
            modality["reads_parts"] = False
    return tree


def model(names: tuple[str, ...] = PAIR, **options: Any) -> dict:
    """`config.model`; options are its fields (compat, prediction, ...)."""
    small = {"width": D, "feed_forward": 32, "layers": 1, "heads": 2, "projection": D, "groups": 4, "temporal_heads": 2}
    tree = _with(recipe(names)["model"], small)
    for name, modality in tree["modalities"].items():
        channels = 16 if name == "text" else 4
        if name == "text":
            modality["codec"]["latent"] = channels
        else:
            modality["codec"].update(channels=8, z_channels=channels, embed_dim=channels, patch=16, mult=(1,))
        if name in ("image", "video"):
            modality["prompt"].update(stem=())
        if name == "audio":
            modality["codec"].update(patch=32)
            modality["prompt"].update(embed_dim=8, patch_size=16, patch_stride=(16, 16), num_heads=(1, 2), window=2)
            modality["iterations"] = 2
        modality["denoiser"].update(
            latent_channels=channels, channels=16, context_width=D,
            multipliers=(1,), blocks=(1,), attention_levels=(False,), cross_modal_levels=(True,),
        )  # fmt: skip
        modality["environment"].update(latent_channels=channels, channels=16, multipliers=(1,), blocks=(1,))
    return {**tree, "prediction": "v", "schedule": "cosine", **options}


def reading_parts(*names: str) -> CoDi:
    """The model of these modalities, whose images and sounds have encoders of parts."""
    tree = model(names)
    for name in set(names) & {"image", "audio"}:
        tree["modalities"][name]["reads_parts"] = True
    return CoDi.from_config(tree)


def codi(*names: str, **options: Any) -> CoDi:
    """The model of these modalities (PAIR by default), cached; options as for `model`."""
    return _codi(names or PAIR, **options)


@functools.lru_cache
def _codi(names: tuple[str, ...], **options: Any) -> CoDi:
    return CoDi.from_config(model(names, **options))


def shapes(codi: CoDi) -> dict:
    """Shapes of the parameters, {component: tree}."""
    return {component: codi.shapes(component) for component in codi.component_names()}


def params(codi: CoDi, seed: int = 0) -> dict:
    """Random parameters of a model; see `drawn`."""
    return drawn(shapes(codi), seed)


def drawn(tree: dict, seed: int = 0) -> dict:
    """Random nonzero parameters of these shapes; each leaf depends only on the seed and its path."""

    def draw(path: str, leaf: Any) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        if path.endswith(("/scale", "/var")):
            return 1 + 0.1 * np.tanh(noise)
        return noise / np.sqrt(np.prod(leaf.shape[:-1])) if path.endswith("/kernel") else 0.1 * noise

    leaves = {path: jnp.asarray(draw(path, leaf), leaf.dtype) for path, leaf in paths.flatten(tree).items()}
    return paths.replace(tree, leaves)


def variables(codi: CoDi, seed: int = 0) -> dict:
    """Random parameters and default constants."""
    return {"params": params(codi, seed), "constants": jax.tree.map(jnp.asarray, codi.default_constants())}


def encoded(codi: CoDi, size: int, seed: int = 0) -> dict[str, Encoded]:
    """A random batch of `Encoded`."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((size, *shape)).astype(np.float32)

    out = {}
    for name, modality in codi.modalities.items():
        latent = modality.latent_shape
        out[name] = Encoded(normal(*latent), 0.1 * np.abs(normal(*latent)), normal(D), normal(D))
    return out


def config(names: tuple[str, ...] = PAIR) -> ConfigDict:
    """The demo's recipe for the toy, without judges: four steps per stage, a checkpoint every second step."""
    tree = recipe(names)
    tree["model"] = model(names)
    for group in ("judge", "similarity"):
        tree["stages"].pop(group, None)
    for source in tree["sources"].values():
        source["size"] = 32
    for group in tree["stages"].values():
        for stage in group.values():
            stage["num_stats_samples"] = 8
    return ConfigDict(tree)


def same(a: Any, b: Any) -> bool:
    """Whether two trees are bit-identical."""
    a, b = paths.flatten(a), paths.flatten(b)
    return a.keys() == b.keys() and all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)


@functools.lru_cache
def trained() -> Path:
    """A workdir with the whole toy recipe trained, once for all workers of the suite; read-only."""
    workdir = Path(os.environ["CODI_JAX_SUITE"]) / "toy"
    with open(f"{workdir}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "config.json").exists():
            run = open_run(config(), workdir)
            train(run, quiet=True)
            save_config(config(), workdir)
    return workdir


def judges_config() -> ConfigDict:
    """A recipe of judges and similarity towers with the model of the toy, four steps per stage."""
    tree = config().to_dict()
    adam = {"learning_rate": 1e-3, "warmup": 1}
    common = {"source": "judge", "steps": 4, "batch_size": 8, "optimizer": adam, "num_stats_samples": 0, "log_every": 1}
    judge = {
        "objective": "judge",
        "modalities": ("image",),
        "trainable": ("image_judge/.*",),
        "settings": JUDGE,
    }
    towers = {
        "objective": "similarity",
        "modalities": PAIR,
        "trainable": tuple(f"{name}_similarity/.*" for name in PAIR),
        "settings": {"views": ("text",)},
    }
    tree["sources"]["judge"] = {"name": "digit_world", "split": "judge", "size": 32, "modalities": PAIR}
    tree["stages"] = {"judge": {"image": {**judge, **common}}, "similarity": {"all": {**towers, **common}}}
    return ConfigDict(tree)


@functools.lru_cache
def random_judges() -> dict[str, dict]:
    """Random parameters of the stages of `judges_config`: stage -> {component: tree}."""
    image = jnp.zeros((1, 32, 32, 3))
    judge = drawn(jax.eval_shape(Judge(from_dict(JudgeConfig, JUDGE)).init, jax.random.key(0), image))
    towers = params(codi(), seed=1)
    similar = {f"{name}_similarity": towers[codi()[name].components["prompt"]] for name in PAIR}
    return {"judge.image": {"image_judge": judge["params"]}, "similarity.all": similar}


@functools.lru_cache
def random_package() -> Path:
    """A packaged model with random parameters, written without training; read-only."""
    folder = Path(os.environ["CODI_JAX_SUITE"]) / f"package-{os.getpid()}"  # one per worker
    write_package(folder)
    return folder


def write_package(folder: Path) -> None:
    """Writes a packaged model with random parameters."""
    judging = zip(("judges", "similarity"), random_judges().values(), strict=True)
    weights = {"model": variables(codi()), **{kind: {"params": tree} for kind, tree in judging}}
    tree = {"run": config().to_dict(), "judges": {"model": model(), "settings": {"image": JUDGE}}}
    packaged.write(folder, weights, tree, "float32")


def with_stage(run: Run, name: str, **changes: Any) -> Run:
    """The run with changed fields of a stage's config."""
    group, leaf = name.split(".")
    changed = dataclasses.replace(run.stage(name), **changes)
    stages = {**run.config.stages, group: {**run.config.stages[group], leaf: changed}}
    return Run(dataclasses.replace(run.config, stages=stages), run.workdir)
