"""The tensors of files of public families, under other names, and the bits of what is read of them."""

from codi_jax.interop.families import read, recognise
from codi_jax.interop.names import flatten
from tests.interop import cases, files
from tests.interop.cases import CONFIGS, FILES

UNET = "model.diffusion_model."  # of Stable Diffusion's one file


def state_of(name, seed=0):
    return files.filled(FILES[name][1](), seed)


def under(prefix):
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def only(prefix, new=""):
    """The tensors below a prefix, below another one."""
    return lambda state: {
        new + key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def bytes_of(state):
    """Component -> path -> shape and bits."""
    found = read(recognise(state), state, CONFIGS, cases.targets(), cast=False)[0]
    return {
        component: {path: (leaf.shape, leaf.dtype, leaf.tobytes()) for path, leaf in flatten(part.tree).items()}
        for component, part in found.items()
    }
