"""A pipeline that computes nothing: values of the right kinds, drawn from the seed, with steps that may be watched."""

import dataclasses
import threading

import numpy as np

from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.output import Output
from codi_jax.sampling.config import GenerateConfig
from tests import toy


def value(modality, rng):
    form = modality.value_format
    if modality.suffix == ".txt":
        return f"a caption of {rng.integers(1000)}"
    if modality.suffix == ".wav":
        return rng.integers(-9000, 9000, form["samples"], np.int16)
    frames = (form["frames"],) if "frames" in form else ()
    return rng.integers(0, 255, (*frames, form["size"], form["size"], 3), np.uint8)


@dataclasses.dataclass
class FakePipe:
    """Every step waits for `gate`, if there is one, and calls `step`."""

    codi: object = dataclasses.field(default_factory=lambda: toy.codi(*toy.EVERYTHING))
    step: object = staticmethod(lambda: None)
    calls: list = dataclasses.field(default_factory=list)
    gate: threading.Semaphore | None = None

    @property
    def config(self):
        return GenerateConfig({name: ClassifierFreeGuidance(2.0) for name in self.codi.modalities}, steps=4)

    def __call__(self, prompts=None, to=(), n=1, seed=0, *, steps, progress=None, preview=None, hold=None, **options):
        self.calls.append({"prompts": prompts, "to": to, "n": n, "seed": seed, "steps": steps, "hold": hold, **options})
        rng, names = np.random.default_rng(seed), self.codi.order(to)
        for k in range(steps):
            if self.gate is not None:
                assert self.gate.acquire(timeout=60)
            if progress is not None:
                progress("sampling", k, steps)
            self.step()
            if preview is not None:
                preview(k + 1, steps, {name: np.zeros((n, *self.codi[name].latent_shape)) for name in names})
        values = {name: [value(self.codi[name], rng) for _ in range(n)] for name in names}
        for name, of in (hold or {}).items():
            values[name] = [of.value] * n
        return Output(self.codi, values, {})

    def decode(self, latents):
        rng = np.random.default_rng(0)
        return Output(self.codi, {name: [value(self.codi[name], rng) for _ in z] for name, z in latents.items()}, {})
