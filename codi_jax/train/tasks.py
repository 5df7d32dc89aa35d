"""What each objective asks of the loop: components, loss, what its batches hold, what it leaves as constants."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp

from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.evaluate import judges, similarity
from codi_jax.objectives import bridging, codec, conditioning, latent_alignment, ldm
from codi_jax.objectives.conditioning import Encoded
from codi_jax.objectives.step import Loss
from codi_jax.parallel import distributed
from codi_jax.rng import fold


@dataclasses.dataclass(frozen=True)
class Task:
    """An objective, bound to a model and its settings.

    Attributes:
      components: all that the loss reads.
      init: key, names of components -> their initial parameters.
      loss: see `objectives.step`.
      transform: stacked samples of the source to a batch, on the host.
      example: a batch of so many rows of zeros, for shapes; where batches are of several pairs, of the first two
        modalities.
      constants: (variables, batches) -> constants of what was trained; None if there are none.
      accumulate: parts in which the step is to take a batch; 1 where the loss is not a mean over samples.
      outputs: modalities that are to be generated (together) with what it trains; none if it trains other things.
      by_level: (variables, batch, key) -> scalars of a batch that is not trained on, if they are more than the loss.
    """

    components: tuple[str, ...]
    init: Callable[[jax.Array, tuple[str, ...]], dict]
    loss: Loss
    transform: Callable[[Any], Any]
    example: Callable[[int], Any]
    constants: Callable[[dict, Iterable[Any]], dict] | None = None
    accumulate: int = 1
    outputs: tuple[str, ...] = ()
    by_level: Loss | None = None

    def validate(self, variables: dict, batch: Any, key: jax.Array) -> dict[str, Any]:
        """Scalars of a batch that is not trained on, `loss` among them."""
        if self.by_level is not None:
            return self.by_level(variables, batch, key)
        value, metrics = self.loss(variables, batch, key)
        return {"loss": value, **metrics}


def _media(codi: CoDi, names: tuple[str, ...], samples: dict) -> dict:
    return {name: codi[name].prepare(samples) for name in names}


def _pair(names: tuple[str, ...], batch: dict) -> tuple[str, ...]:
    """The two of a stage's modalities that a batch holds: of a mixture each batch is of one pair."""
    pair = tuple(name for name in names if name in batch)
    if len(pair) != 2:
        raise ConfigError(f"a batch holds two of {', '.join(names)}, not {', '.join(pair) or 'none'}")
    return pair


def _example(codi: CoDi, names: tuple[str, ...], size: int) -> dict:
    return {name: codi[name].example(size) for name in names}


def _encoded(names: tuple[str, ...], samples: dict) -> dict[str, Encoded]:
    return {name: Encoded(**samples[name]) for name in names}


def _encoded_example(codi: CoDi, names: tuple[str, ...], mixed: bool, size: int) -> dict[str, Encoded]:
    prompt, present = jnp.zeros((size, codi.config.width)), jnp.zeros((size,)) if mixed else None
    latents = {name: jnp.zeros((size, *codi[name].latent_shape)) for name in names}
    return {name: Encoded(latent, latent, prompt, prompt, present) for name, latent in latents.items()}


def _component(codi: CoDi, roles: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(codi[name].components[role] for name in names for role in roles)


def _refuse_parts(stage: Any, what: str) -> None:
    if stage.accumulate > 1:
        raise ConfigError(f"stages.*.accumulate: {what} compares the samples of a batch, so no part can stand alone")


def make_task(codi: CoDi, stage: Any, encoded: bool) -> Task:
    """The task of a StageConfig; `encoded`: its source holds what `objectives.conditioning.encode` gives."""
    where, names = "stages.*.settings", stage.modalities
    init = lambda key, components: codi.init(key, components)  # noqa: E731
    media, example = partial(_media, codi, names), partial(_example, codi, names)
    if stage.objective in ("bridging", "latent_alignment") and len(names) > 2:
        example = partial(_example, codi, names[:2])

        def media(samples):
            return _media(codi, _pair(names, samples), samples)

    if stage.objective == "codec":
        (name,) = names
        settings = from_dict(codec.CodecConfig, stage.settings, where)
        moments = jax.jit(lambda v, batch: codi[name].encode_moments(codi[name].component(v, "codec"), batch[name]))

        def statistics(variables, batches):
            parts = [distributed.fetch(moments(variables, batch)) for batch in batches]
            mean, logvar = (jnp.concatenate(x) for x in zip(*parts, strict=True))
            drawn = codi[name].sampled_posterior
            return {codi[name].components["codec"]: codec.latent_statistics(mean, logvar if drawn else None)}

        loss = partial(codec.loss, codi, name, settings)
        return Task(_component(codi, ["codec"], names), init, loss, media, example, statistics, stage.accumulate)

    if stage.objective == "bridging":
        settings = from_dict(bridging.BridgingConfig, stage.settings, where)
        embed = jax.jit(lambda v, b: {n: codi[n].embed(codi[n].component(v, "prompt"), b[n]) for n in b})

        def centres(variables, batches):
            parts = [distributed.fetch(embed(variables, batch)) for batch in batches]
            found = {n: jnp.concatenate([p[n] for p in parts if n in p]) for n in names}
            return {codi[n].components["prompt"]: bridging.prompt_statistics(found[n]) for n in names}

        def bridging_init(key, components):
            own = bridging.init(settings) if bridging.COMPONENT in components else {}
            return {**codi.init(key, components), **own}

        components = (*_component(codi, ["prompt"], names), bridging.COMPONENT)

        def loss(variables, batch, key):
            pair = _pair(names, batch)
            return bridging.loss(codi, pair, settings, variables, batch, key, accumulate=stage.accumulate)

        return Task(components, bridging_init, loss, media, example, centres)

    if stage.objective == "judge":
        (name,) = names
        settings = from_dict(judges.JudgeConfig, stage.settings, where)
        judge = judges.Judge(settings)
        component = judges.component(name)

        def judge_init(key, components):
            example = codi[name].codec_input(codi[name].example(1))
            return {c: judge.init(fold(key, c), example)["params"] for c in components}

        def batch(samples):
            factors = {k: samples["factors"][k] for k in settings.factors}
            return {"media": codi[name].codec_input(codi[name].prepare(samples)), "factors": factors}

        def judge_example(size):
            factors = {k: jnp.zeros((size,), jnp.int32) for k in settings.factors}
            return {"media": codi[name].codec_input(codi[name].example(size)), "factors": factors}

        loss = partial(judges.loss, judge, component)
        return Task((component,), judge_init, loss, batch, judge_example, accumulate=stage.accumulate)

    if stage.objective == "similarity":
        settings = from_dict(similarity.SimilarityConfig, stage.settings, where)
        towers = tuple(similarity.component(name) for name in names)
        _refuse_parts(stage, "similarity")
        return Task(towers, partial(similarity.init, codi), partial(similarity.loss, codi, settings), media, example)

    inputs = () if encoded else _component(codi, ["codec", "prompt"], names)
    if stage.objective == "ldm":
        settings = from_dict(ldm.LDMConfig, stage.settings, where)
        name = names[0]
        loss, by_level = (partial(f, codi, name, settings) for f in (ldm.loss, ldm.by_level))
        components, outputs = _component(codi, ["denoiser"], [name]), (name,)
    else:
        by_level, settings = None, from_dict(latent_alignment.LatentAlignmentConfig, stage.settings, where)
        outputs = names if settings.losses else ()

        def loss(variables, batch, key):
            return latent_alignment.loss(codi, _pair(names, batch), settings, variables, batch, key)

        if settings.align == "contrastive":
            _refuse_parts(stage, "align: contrastive")
        read = [n for n in names if any(n in settings.environments(pair) for pair in combinations(names, 2))]
        components = _component(codi, ["environment"], read)
        components += _component(codi, ["denoiser"], dict.fromkeys((*settings.losses, *read)))  # V reads its time
        components += _component(codi, ["cross"], settings.losses)
    if codi.config.null == "empty":
        inputs += _component(codi, ["prompt"], settings.prompts.sources)
    if encoded:
        shapes = partial(_encoded_example, codi, names, not isinstance(stage.source, str))
        batch = partial(_encoded, names)
        return Task(components + inputs, init, loss, batch, shapes, None, stage.accumulate, outputs, by_level)

    def online(function, variables, batch, key):
        return function(variables, conditioning.encode(codi, variables, batch), key)

    return Task(
        components + inputs,
        init,
        partial(online, loss),
        media,
        example,
        accumulate=stage.accumulate,
        outputs=outputs,
        by_level=by_level and partial(online, by_level),
    )
