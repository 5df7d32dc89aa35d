"""Whole DDIM trajectories with classifier-free guidance and mixed conditions, as in the release; case 14.

The condition tensors are the null prompts followed by the prompts, so that their mix is the context of both branches.
Outputs attend to their own token, so that their trajectories are independent.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion import guidance, samplers, schedules
from codi_jax.nn import Denoiser, EnvironmentEncoder, UNet
from codi_jax.types import Tokens
from tests.parity import unets
from tests.parity.golden import cases

TRAJECTORY = 5e-3  # of INDEX.md: errors accumulate over the steps

SUBCASES = [(case, subcase) for case in cases("14_ddim") for subcase in case.config["subcases"]]
# The same networks as in shorter ones, or in those of a pair.
LONG = ("image_S50", "image_S10", "video_audio_S10")
SLOW = ("image_text_S10", "image")  # the network of the image, which test_unet_joint compares in one call
OUTPUTS = [
    pytest.param(
        *(case, subcase, i),
        id=f"{case.name}-{subcase['name']}-{modality}",
        marks=[pytest.mark.slow] if subcase["name"] in LONG or (subcase["name"], modality) == SLOW else [],
    )
    for case, subcase in SUBCASES
    for i, modality in enumerate(subcase["xtype"])
]


def schedule():
    return schedules.make("scaled_linear")


@functools.lru_cache
def step(net):
    """A compiled sampler step of one network; the gate is 1 for joint generation and 0 for an output alone."""
    denoiser = Denoiser(net.unet, net.width, alias_skip=True)

    def predict(args, z, t):
        both, t2 = jnp.concatenate([z, z]), jnp.concatenate([t, t])
        emb = UNet(net.unet).apply({"params": args["params"]["unet"]}, t2, method="embed_time")
        tokens = EnvironmentEncoder(net.environment).apply({"params": args["params"]["environment"]}, both, emb)
        parts = {part: args["params"][part] for part in ("unet", "cross")}
        gate = jnp.broadcast_to(args["gate"], t2.shape)
        stacked = denoiser.apply({"params": parts}, both, t2, args["context"], Tokens.of(tokens), gate)
        coefficients = guidance.ClassifierFreeGuidance(prompt=args["scale"]).coefficients(schedule().steps)
        return guidance.combine(stacked.reshape(2, *z.shape), coefficients(t, guidance.RELEASE))

    return jax.jit(samplers.JointStep(predict, schedule(), "ddim", ("eps",)), compiler_options=unets.QUICK)


def levels(subcase):
    return samplers.timesteps(schedule(), subcase["steps"], "release")


def trajectory(case, subcase, output):
    """The latents after every step, in PyTorch's layout."""
    net, params = unets.load(case, unets.unet_of(subcase["xtype"][output]))
    inputs = case.inputs(subcase["name"])
    args = {
        "params": params,
        "context": unets.context_of(inputs, subcase),
        "scale": jnp.float32(subcase["scale"]),
        "gate": jnp.float32(len(subcase["xtype"]) > 1),
    }
    state = samplers.SAMPLERS["ddim"].init(jnp.asarray(unets.from_torch(inputs[f"xT{output}"])))
    for i, (t, t_next) in enumerate(levels(subcase)):
        state = step(net)(state, args, jnp.float32(0), i, t, t_next)
        yield unets.to_torch(state.z)


@pytest.mark.parametrize(("case", "subcase", "output"), OUTPUTS)
def test_trajectory(case, subcase, output):
    name = subcase["name"]
    with jax.default_matmul_precision("highest"):
        latents = list(trajectory(case, subcase, output))
    for i in subcase["keep_steps"]:
        case.check(f"{name}/after_step{i}_z{output}", latents[i])
    case.check(f"{name}/z{output}", latents[-1], TRAJECTORY)


@pytest.mark.parametrize(("case", "subcase"), [pytest.param(c, s, id=f"{c.name}-{s['name']}") for c, s in SUBCASES])
def test_timesteps(case, subcase):
    pairs = levels(subcase)
    case.check(f"{subcase['name']}/timesteps", pairs[::-1, 0])
    np.testing.assert_array_equal(pairs[1:, 0], pairs[:-1, 1])


def test_every_output_of_the_files_is_checked():
    assert cases("14_ddim")
    for case in cases("14_ddim"):
        checked = set()
        for subcase in case.config["subcases"]:
            whens = ["", *(f"after_step{k}_" for k in subcase["keep_steps"])]
            names = ["timesteps", *(f"{when}z{i}" for when in whens for i in range(len(subcase["xtype"])))]
            checked |= {f"{subcase['name']}/{name}" for name in names}
        assert checked == set(case.outputs())
