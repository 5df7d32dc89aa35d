"""The compiled train step of every objective, on one device and on eight."""

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codi_jax.data.source import make_source, read_batch
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.objectives import bridging, codec, latent_alignment, ldm
from codi_jax.objectives.batches import EncodedBatches
from codi_jax.objectives.bridging import BridgingObjective
from codi_jax.objectives.codec import CodecObjective
from codi_jax.objectives.conditioning import PromptConfig
from codi_jax.objectives.distillation import DistillationConfig, DistillationObjective, teacher_of
from codi_jax.objectives.latent_alignment import LatentAlignmentConfig, LatentAlignmentObjective
from codi_jax.objectives.ldm import LDMObjective
from codi_jax.objectives.parts import PartsObjective
from codi_jax.optim import TrainState, merge, partition, select
from codi_jax.parallel import (
    MeshConfig,
    ShardingConfig,
    batch_sharding,
    make_mesh,
    paths,
    place_batch,
    replicated,
    resolve,
)
from codi_jax.parallel.sharding import split_context
from tests import toy

PAIR, SIZE, KEY = toy.PAIR, 8, jax.random.key(1)
PROMPTS = PromptConfig(PAIR, drop=0.5, noise=0.3)
ALIGNMENT = LatentAlignmentConfig(losses=PAIR, aligned=PAIR, prompts=PROMPTS)

# Keeps the gradient as its state, before the optimizer.
_remember = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params), lambda grads, state, params=None: (grads, grads)
)
SLOW = ("distillation", "codec-text")
TX = optax.chain(_remember, optax.adam(3e-3))


@dataclasses.dataclass(frozen=True)
class Case:
    make: Callable[..., Any]  # codi -> objective
    reads: tuple[str, ...]  # components
    train: tuple[str, ...]
    batch: Callable[[], Any]


def media():
    source = make_source({"name": "digit_world", "split": "train", "size": SIZE})
    samples, codi = read_batch(source, range(SIZE)), toy.codi()
    return {name: codi[name].prepare(samples) for name in PAIR}


def latents():
    return toy.encoded(toy.codi(), SIZE)


def media_of(name):
    return lambda: {name: media()[name]}


DENOISERS = ("text_unet", "vision_unet")
STUDENT, STRONG = ("vision_unet", "image_cross"), ClassifierFreeGuidance(8.0, 8.0)
JOINT = ("text_environment", "image_environment", "text_cross", "image_cross")
OBJECTIVES = {
    "codec-text": Case(
        lambda codi: CodecObjective(codi, "text", codec.CodecConfig(0.1)),
        ("text_codec",), ("text_codec/.*",), media_of("text"),
    ),
    "codec-image": Case(
        lambda codi: CodecObjective(codi, "image", codec.CodecConfig()),
        ("vision_codec",), ("vision_codec/decoder.*",), media_of("image"),
    ),
    "bridging": Case(
        lambda codi: BridgingObjective(codi, PAIR, bridging.BridgingConfig()),
        ("clip_text", "clip_vision", "bridging"), ("clip_vision/.*", "bridging/.*"), media,
    ),
    "parts": Case(
        lambda _: PartsObjective(toy.reading_parts(*PAIR), "image"),
        ("image_parts", "clip_vision"), ("image_parts/.*",), media_of("image"),
    ),
    "ldm": Case(
        lambda codi: LDMObjective(codi, "text", ldm.LDMConfig(PROMPTS), EncodedBatches(codi, PAIR)),
        ("text_unet",), ("!text_unet/time/.*", "text_unet/.*"), latents,
    ),
    "latent_alignment": Case(
        lambda codi: LatentAlignmentObjective(codi, PAIR, ALIGNMENT, EncodedBatches(codi, PAIR)),
        (*DENOISERS, *JOINT), tuple(f"{name}/.*" for name in JOINT), latents,
    ),
    "distillation": Case(
        lambda codi: DistillationObjective(
            codi, "image", DistillationConfig(2, PROMPTS, STRONG, substeps=2), EncodedBatches(codi, PAIR)
        ),
        (*STUDENT, *map(teacher_of, STUDENT), "text_unet", "text_environment"),
        ("!vision_unet/time/.*", *(f"{name}/.*" for name in STUDENT)), latents,
    ),
}  # fmt: skip


def parameters(objective):
    tree = {**toy.params(toy.codi()), **bridging.init(bridging.BridgingConfig())}
    tree |= {teacher_of(name): tree[name] for name in STUDENT}
    tree["image_parts"] = jax.tree.map(lambda x: x[..., ::-1], tree["clip_vision"])
    params = {name: tree[name] for name in objective.reads}
    return partition(params, select(params, objective.train))


# Attention by heads, feed-forward by its inner width, convolutions by channels.
TENSOR = (
    (r"(query|key|value|fc1|layer_in)/kernel", (None, "tensor")),
    (r"(out|fc2|layer_out)/kernel", ("tensor",)),
    (r"residual/conv1/kernel", (None, None, None, "tensor")),
)
CONTEXT = ((r"image/(mean|std)", 1), (r"image", 1), (r"text/ids", 1))
MESHES = (
    {"data": 8},
    {"fsdp": 8},
    {"tensor": 2, "data": 4},
    {"context": 2, "data": 4},
    {"data": 2, "fsdp": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "context": 2, "data": 2},
    {"tensor": 2, "context": 2, "fsdp": 2},
)
SPLIT = ShardingConfig(fsdp_min_bytes=256)


def compiled(objective, mesh=None, config=SPLIT):
    """(step, initial state, frozen parameters, function that takes a step from a state), sharded by the config."""
    trained, frozen = parameters(objective)
    options = {}
    constants = jax.tree.map(jnp.asarray, toy.codi().default_constants())
    create, batch = partial(TrainState.create, tx=TX), objective.batch()
    if mesh is None:
        state = jax.jit(create)(trained)
    else:
        layout, _ = resolve(jax.eval_shape(create, trained), mesh, config)
        state = jax.jit(create, out_shardings=layout)(trained)
        fixed, replicated_sharding = resolve(frozen, mesh, config)[0], replicated(mesh)
        frozen = jax.device_put(frozen, fixed)
        constants, batch = jax.device_put(constants, replicated_sharding), place_batch(batch, mesh)
        options = {
            "batch_as": lambda b: split_context(b, mesh, config.context),
            "in_shardings": (layout, fixed, replicated_sharding, batch_sharding(mesh), replicated_sharding),
            "out_shardings": (layout, replicated_sharding),
        }
    step = objective.make(toy.codi()).train_step(TX, 0.9, compiler_options=toy.QUICK, **options)
    return step, state, frozen, lambda state: step(state, frozen, constants, batch, KEY)


@pytest.fixture(
    scope="module",  # a student's step is that of its denoiser, with a teacher beside it; both codecs take one step
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in OBJECTIVES],
)
def trained(request):
    """Twenty steps on one batch, then the first step again: the same noise with the trained parameters."""
    objective = OBJECTIVES[request.param]
    step, state, frozen, take = compiled(objective)
    before = jax.device_get(frozen)
    first = None
    for _ in range(20):
        state, metrics = take(state)
        if first is None:
            first = jax.device_get((metrics, state.opt_state[0]))
    after = jax.device_get((state.params, frozen))
    _, last = take(state.replace(step=jnp.zeros((), jnp.int32)))
    return request.param, step, before, first, after, jax.device_get(last)


def test_trained_leaves_change_and_frozen_ones_have_no_gradient(trained):
    name, _, before, (_, gradients), (params, frozen), _ = trained
    start, _ = parameters(OBJECTIVES[name])
    assert toy.same(frozen, before)
    start, gradients = paths.flatten(start), paths.flatten(gradients)
    unchanged = {path for path, x in paths.flatten(params).items() if np.array_equal(x, start[path])}
    # The softmax over a single token is 1 for all scores, so query and key get no gradient.
    assert all(re.search("/(cross/(query|key)|norm_cross)/", path) for path in unchanged)
    assert unchanged == {path for path, x in gradients.items() if not np.any(x)}
    assert gradients.keys() == start.keys()
    assert not gradients.keys() & paths.flatten(frozen).keys()


def test_the_loss_falls_on_one_batch(trained):
    name, _, _, (first, _), _, last = trained
    assert last["skipped"] == 0
    assert last["loss"] < 0.95 * first["loss"], name


def test_nothing_is_compiled_after_the_first_step(trained):
    assert trained[1]._cache_size() == 1


def check_on_mesh(name, mesh, config, first):
    """Takes two steps on a mesh: the first equals that of one device, and the second compiles nothing."""
    with jax.set_mesh(mesh):
        step, state, _, take = compiled(OBJECTIVES[name], mesh, config)
        state, metrics = take(state)
        gradients = jax.device_get(state.opt_state[0])
        state, _ = take(state)
        assert step._cache_size() == 1
    want, want_gradients = first
    axes = str(dict(mesh.shape))
    for metric in ("loss", "grad_norm"):
        assert float(metrics[metric]) == pytest.approx(float(want[metric]), rel=1e-5), axes
    wanted = paths.flatten(want_gradients)
    for path, got in paths.flatten(gradients).items():
        scale = np.abs(wanted[path]).max()
        np.testing.assert_allclose(
            got, wanted[path], rtol=1e-5, atol=1e-5 * max(scale, 1e-2), err_msg=f"{path} on {axes}"
        )
    return state


@pytest.mark.parametrize(
    "trained", ["bridging", pytest.param("ldm", marks=pytest.mark.slow), "latent_alignment"], indirect=True
)
def test_sharded_over_eight_devices_the_step_is_the_same(trained):
    name = trained[0]
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    state = check_on_mesh(name, mesh, SPLIT, trained[3])
    assert resolve(state, mesh, SPLIT)[1].sharded_fraction > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["bridging", "ldm", "latent_alignment"], indirect=True)
def test_on_every_axis_and_their_combinations_the_step_is_the_same(trained):
    for sizes in MESHES:
        mesh = make_mesh(MeshConfig(**{"data": 1, "fsdp": 1, **sizes}))
        rules = TENSOR if mesh.shape["tensor"] > 1 else ()
        check_on_mesh(trained[0], mesh, ShardingConfig(rules, CONTEXT, fsdp_min_bytes=256), trained[3])


def test_the_loss_of_one_output_reaches_the_environment_encoder_of_the_other():
    codi, objective = toy.codi(), OBJECTIVES["latent_alignment"]
    trained, frozen = parameters(objective)
    config = dataclasses.replace(ALIGNMENT, losses=("text",), align="none")
    batch = latents()

    def loss(trained):
        variables = {"params": merge(trained, frozen), "constants": codi.default_constants()}
        return latent_alignment.loss(codi, PAIR, config, variables, batch, KEY)[0]

    gradients = toy.quick(jax.grad(loss))(trained)
    reached = {name: any(np.any(x) for x in jax.tree.leaves(tree)) for name, tree in gradients.items()}
    assert reached == {
        "image_environment": True, "text_cross": True, "text_environment": False, "image_cross": False
    }  # fmt: skip
