"""How activations are split: every network keeps its batch where it is, and gathers weights.

The batch is 7 samples on each of 8 devices, while all sizes of weights are made of 2 and 3: an array of a collective
whose number of elements is a multiple of 7 is an activation, or its gradient.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from codi_jax.encoders.autokl import AutoKL, AutoKLConfig
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig
from codi_jax.encoders.clip import CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig
from codi_jax.nn import Denoiser, EnvironmentConfig, EnvironmentEncoder, UNetConfig
from codi_jax.parallel import MeshConfig, ShardingConfig, batch_sharding, make_mesh, resolve
from codi_jax.parallel.activations import constrain, shards
from codi_jax.parallel.collectives import each
from codi_jax.parallel.hlo import Program
from codi_jax.parallel.sharding import split_context
from codi_jax.types import Tokens

EACH = 7
SIZES = {"channels": 32, "groups": 8, "multipliers": (1, 2), "blocks": (1, 1)}
UNET = {
    **SIZES,
    "context_width": 32,
    "heads": 4,
    "attention_levels": (True, False),
    "cross_modal_levels": (True, False),
}
ONE_LEVEL = {"multipliers": (1,), "blocks": (1,), "attention_levels": (True,), "cross_modal_levels": (True,)}
TOWER = {"width": 32, "layers": 1, "heads": 4, "feed_forward": 64, "projection": 32}


def denoiser(kind, shape, **options):
    net = Denoiser(UNetConfig(**{**UNET, "kind": kind, "latent_channels": shape[-1], **options}), cross_width=24)
    tokens = lambda width, n=1: Tokens.of(jnp.zeros((1, n, width)))  # noqa: E731
    return net, (jnp.zeros((1, *shape)), jnp.zeros((1,)), tokens(32), tokens(24, 2), jnp.ones((1,)))


def environment(kind, shape, **options):
    config = EnvironmentConfig(kind=kind, latent_channels=shape[-1], width=24, **SIZES, **options)
    return EnvironmentEncoder(config), (jnp.zeros((1, *shape)), jnp.zeros((1, 128)))


def clap():
    config = CLAPAudioConfig(
        mel_bins=16, spec_size=32, patch_size=4, patch_stride=(4, 4), embed_dim=32, depths=(1, 1), num_heads=(2, 4),
        window=2, projection=32,
    )  # fmt: skip
    return CLAPAudio(config), (jnp.zeros((1, 64, 16)),)


def autokl():
    config = AutoKLConfig(in_channels=4, channels=32, mult=(1, 2), blocks=1, z_channels=4, embed_dim=4)
    return AutoKL(config), (jnp.zeros((1, 16, 16, 4)),)


NETWORKS = {
    "video": lambda: denoiser("spatial", (4, 8, 8, 4), temporal=True, **ONE_LEVEL),
    "image": lambda: denoiser("spatial", (8, 8, 4), cross_modal_levels=(False, False)),
    "sequence": lambda: denoiser("sequence", (16, 8), **ONE_LEVEL),
    "vector": lambda: denoiser("vector", (32,), **ONE_LEVEL),
    "image, environment": lambda: environment("spatial", (8, 8, 4)),
    "vector, environment": lambda: environment("vector", (32,)),
    "clip, text": lambda: (CLIPText(CLIPTextConfig(vocab=96, positions=16, **TOWER)), (jnp.zeros((1, 16), jnp.int32),)),
    "clip, vision": lambda: (
        CLIPVision(CLIPVisionConfig(image_size=16, patch=4, temporal=True, **TOWER)),
        (jnp.zeros((1, 4, 16, 16, 3)),),
    ),
    "clap": clap,
    "autokl": autokl,
}


def compiled(network, mesh, rules=(), context=()):
    """The compiled gradient of a network, with parameters sharded by fsdp and by rules, the batch by context, too."""
    module, example = NETWORKS[network]()
    params = jax.eval_shape(module.init, jax.random.key(0), *example)["params"]
    shardings, _ = resolve(params, mesh, ShardingConfig(rules=rules, fsdp_min_bytes=2**12))
    rows = EACH * math.prod(mesh.shape[a] for a in ("data", "fsdp"))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), example)

    def loss(params, batch):
        out = jax.tree.leaves(module.apply({"params": params}, *split_context(batch, mesh, context)))
        return sum(jnp.square(x).mean() for x in out)

    with jax.set_mesh(mesh):
        gradient = jax.jit(jax.grad(loss), in_shardings=(shardings, batch_sharding(mesh)), out_shardings=shardings)
        return Program(gradient.lower(params, batch).compile().as_text())


def arrays_sent(program):
    """Kind and result of every array that is sent."""
    return [(c.kind, array) for c in each(program) for array in c.visit.instruction.outputs]


def of_activations(program):
    return [f"{kind} {array.shape}" for kind, array in arrays_sent(program) if math.prod(array.shape) % EACH == 0]


@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in ("image", "video", "sequence"))) for n in NETWORKS],
)
def test_no_activation_is_sent_under_fsdp(network):
    program = compiled(network, make_mesh(MeshConfig(data=2, fsdp=4)))
    assert any(kind == "all-gather" for kind, _ in arrays_sent(program))  # of weights
    assert of_activations(program) == []


@pytest.mark.parametrize("axis", ["context", pytest.param("tensor", marks=pytest.mark.slow)])
def test_no_activation_is_gathered_over_the_batch_beside_another_axis(axis):
    """Partial sums and gathers over 'tensor' or 'context' have the rows of one part of the batch."""
    wide = r"(unet|cross)/\w+/(attend/)?(self|feed_forward)"
    rules = (
        (f"{wide}/(query|key|value|layer_in)/kernel", (None, "tensor")),
        (f"{wide}/(out|layer_out)/kernel", ("tensor",)),
    )
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, **{axis: 2}))
    program = compiled("sequence", mesh, *((rules, ()) if axis == "tensor" else ((), (("0", 1),))))
    whole = EACH * mesh.shape["fsdp"]
    assert [
        f"{kind} {array.shape}" for kind, array in arrays_sent(program) if array.shape and array.shape[0] == whole
    ] == []


def test_constraints_need_a_mesh_and_equal_parts():
    x = jnp.zeros((12, 3))
    assert constrain(x, "batch") is x and shards("batch", 12) == 1
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        assert (shards("batch", 12), shards("batch", 6), shards("heads", 6), shards("heads", 3)) == (4, 1, 2, 1)
        split = jax.jit(lambda x: constrain(x, "batch"))(x)
        assert split.sharding.spec == P(("data", "fsdp"))
        odd = x[:6]
        assert constrain(odd, "batch") is odd
        inside = jax.jit(jax.shard_map(lambda x: constrain(x, "batch"), in_specs=P("data"), out_specs=P("data")))
        np.testing.assert_array_equal(inside(x), x)
    with jax.set_mesh(make_mesh(MeshConfig(data=1), jax.devices()[:1])):
        assert constrain(x, "batch") is x  # one device: the program is the same as without a mesh
