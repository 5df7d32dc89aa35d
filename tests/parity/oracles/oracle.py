"""What the oracle tests share: a model of another library with telling weights, read by us through the front door.

The oracles need torch 2.13.0 (its CPU build) and diffusers beside what `make test` installs; without, they are skipped.
"""

from typing import Any

import jax
import numpy as np
import torch

from codi_jax.interop.families import read, recognise


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in evaluation, with weights drawn anew so that no layer is idle and no gain is one.

    Matrices have the variance 1 / inputs, tables 1/4; gains and biases move by a fifth, statistics by a third.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(x: torch.Tensor) -> torch.Tensor:
        return torch.randn(x.shape, generator=draw)

    tables = {id(m.weight) for m in module.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for p in module.parameters():
            if id(p) in tables:
                p.copy_(normal(p) / 2)
            elif p.ndim > 1:
                p.copy_(normal(p) * p[0].numel() ** -0.5)
            else:
                p.add_(normal(p) / 5)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(torch.exp(normal(buffer) / 3))
    return module.eval()


def state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Its flat dictionary as arrays."""
    return {key: value.detach().numpy() for key, value in module.state_dict().items()}


def target(model: Any, *examples: Any, **options: Any) -> dict:
    """Shapes of a model's parameters, traced on arrays of the given shapes and dtypes."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), *examples, **options))["params"]


def loaded(weights: dict[str, np.ndarray], component: str, config: Any, shapes: dict, family: str) -> dict:
    """Our parameters of a component; the file has to be recognised, fill all of it and leave nothing unexplained."""
    known = recognise(weights)
    assert known.name == family
    found, _ = read(known, weights, {component: config}, {component: shapes})
    assert not found[component].missing
    assert not found[component].rows
    return found[component].tree


def run(model: Any, params: dict, *inputs: Any, **options: Any) -> Any:
    """Our model in float32 at the highest precision of products."""
    with jax.default_matmul_precision("highest"):
        return jax.jit(lambda p, *x: model.apply({"params": p}, *x, **options))(params, *inputs)


def check(ours: Any, theirs: torch.Tensor, relative: float = 1e-5) -> None:
    """Asserts that two arrays agree, by the largest deviation over the largest value."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    deviation = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"deviation {deviation:.1e}, allowed {relative:.0e}")
    assert deviation <= relative
