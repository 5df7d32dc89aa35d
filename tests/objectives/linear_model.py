"""A model whose denoisers are linear, so that a trajectory of DDIM can be computed by hand."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from codi_jax.codi import CoDi
from codi_jax.diffusion import schedules
from codi_jax.objectives.conditioning import Encoded

SIZE = 3  # of latents and prompts
WEIGHTS = {"z": 0.5, "prompt": 0.25, "environment": 2.0}


class LinearModality:
    """Predicts w_z z + w_p · prompt + w_e · gate · environment; its environment token is its latent times `v`."""

    latent_shape = (SIZE,)

    def __init__(self, name):
        self.name = name
        self.components = {
            "denoiser": f"{name}_unet", "cross": f"{name}_cross", "environment": f"{name}_environment",
            "codec": f"{name}_codec", "prompt": f"{name}_tower",
        }  # fmt: skip

    def denoise(self, variables, z, t, context, environment=None, gate=None):
        assert z.shape[0] == t.shape[0] == context.values.shape[0]
        unet = variables["params"][self.components["denoiser"]]
        out = unet["z"] * z + unet["prompt"] * context.values[:, 0]
        if environment is None:
            return out
        added = variables["params"][self.components["cross"]]["environment"] * environment.values[:, 0] * gate[:, None]
        return out.at[out.shape[0] - added.shape[0] :].add(added)

    def environment_tokens(self, variables, z, t, timed=True):
        return variables["params"][self.components["environment"]]["v"] * z[:, None]


class LinearModel(dict):
    """A CoDi of linear modalities "a" and "b"."""

    mix_environment = CoDi.mix_environment
    components_of = CoDi.components_of

    def __init__(self, prediction="x0", compat="true"):
        super().__init__({name: LinearModality(name) for name in "ab"})
        self.config = SimpleNamespace(prediction=prediction, compat=compat, environment_tokens="pooled", width=SIZE)
        self.schedule = schedules.make("cosine")

    def null_prompts(self, variables, names, batch):
        return {name: jnp.zeros((batch, SIZE)) for name in names}


def parameters(name="a", suffix=""):
    """The parameters of one modality, its denoiser and X with a suffix."""
    w = {key: jnp.float32(value) for key, value in WEIGHTS.items()}
    return {
        f"{name}_unet{suffix}": {"z": w["z"], "prompt": w["prompt"]},
        f"{name}_cross{suffix}": {"environment": w["environment"]},
        f"{name}_environment": {"v": jnp.float32(0.5)},
    }


def encoded(size, seed=0):
    """A random encoded batch of one modality, without noise of the posterior."""
    rng = np.random.default_rng(seed)
    normal = lambda: rng.standard_normal((size, SIZE)).astype(np.float32)  # noqa: E731
    return Encoded(normal(), np.zeros((size, SIZE), np.float32), normal(), normal())
