"""The setting of a request: everything but its files, in a link and in settings.json.

    to=image&to=audio&text.as=prompt&text.text=a+red+seven&text.weight=0.5&image.guidance=3.0&steps=25&seed=0&n=4

A link holds no files. Where a setting uses some, the link says of which modalities and how, so that a page can ask for
them.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from codi_jax.config import ConfigError, config_class, did_you_mean, from_dict, to_dict

Role = Literal["prompt", "whole", "part", "change"]
ROLES: tuple[Role, ...] = ("prompt", "whole", "part", "change")
MAX_SEED = 2**53 - 1  # what numbers of a browser hold
MAX_LINK = 20_000  # characters


@config_class()
class Use:
    """How one given value is used.

    Attributes:
      role: `prompt`: outputs are generated from it; `whole`: it is an output that is kept as it is, and the others go
        with it; `part`: a part of it is kept, and the rest of this output generated; `change`: this output starts from
        it, by `strength`.
      weight: mix weight as a prompt; 0 leaves it out.
      keep: the part that is kept, spans of seconds or numbers of frames; "" for what is not painted over, or for the
        beginning of a text.
      strength: of a change, the share of the steps that are taken.
      text: the value itself, if it is a text; None for a file.
    """

    role: Role = "prompt"
    weight: float = 1.0
    keep: str = ""
    strength: float = 0.6
    text: str | None = None


@config_class()
class Setting:
    """What is asked for, without files.

    Attributes:
      to: outputs that are generated.
      given: modality -> how its value is used.
      guidance: output -> scale of guidance by the prompt; the model's own for those not named.
      steps: sampling steps.
      seed: of the noise.
      n: number of samples.
    """

    to: tuple[str, ...] = ()
    given: dict[str, Use] = dataclasses.field(default_factory=dict)
    guidance: dict[str, float] = dataclasses.field(default_factory=dict)
    steps: int = 25
    seed: int = 0
    n: int = 1

    def files(self) -> tuple[str, ...]:
        """The modalities whose values are files, which are not in a link."""
        return tuple(name for name, use in self.given.items() if use.text is None)


@config_class()
class Limits:
    """What one request may ask for.

    Attributes:
      n: samples.
      steps: sampling steps.
      characters: of a text.
      guidance: the largest scale.
      megabytes, megapixels, seconds: of a file.
    """

    n: int = 8
    steps: int = 100
    characters: int = 1000
    guidance: float = 30.0
    megabytes: float = 20.0
    megapixels: float = 25.0
    seconds: float = 60.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"{field.name}: expected a positive limit, got {getattr(self, field.name)}")


def check(setting: Setting, modalities: Collection[str], limits: Limits) -> None:
    """Checks a setting before anything is decoded or computed.

    Args:
      setting: of a client.
      modalities: of the model.
      limits: what a client may ask for.

    Raises:
      ConfigError: something that the model does not have, or that is out of bounds.
    """
    kept = [name for name, use in setting.given.items() if use.role != "prompt"]
    for name in (*setting.to, *setting.given, *setting.guidance):
        if name not in modalities:
            hint = did_you_mean(name, modalities)
            raise ConfigError(f"no modality {name[:40]!r}{hint}; there are {', '.join(modalities)}")
    if not setting.to and not kept:
        raise ConfigError(f"nothing to generate; tick some of {', '.join(modalities)}")
    if len({*setting.to}) < len(setting.to):
        raise ConfigError("an output is named twice")
    _in_range("n", setting.n, 1, limits.n)
    _in_range("steps", setting.steps, 1, limits.steps)
    _in_range("seed", setting.seed, 0, MAX_SEED)
    for name, scale in setting.guidance.items():
        _in_range(f"guidance of {name}", scale, 0, limits.guidance)
    for name, use in setting.given.items():
        _in_range(f"weight of {name}", use.weight, 0, 1)
        _in_range(f"strength of {name}", use.strength, 0.01, 1)
        if len(use.keep) > limits.characters:
            raise ConfigError(f"{name}: what is kept is given in more than {limits.characters} characters")
        if use.text is not None:
            _check_text(name, use.text, limits.characters)


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name}: expected {low:g} to {high:g}, got {value:g}")


def _check_text(name: str, text: str, longest: int) -> None:
    if not text.strip():
        raise ConfigError(f"{name}: it is empty; write something, or leave it out")
    if len(text) > longest:
        raise ConfigError(f"{name}: {len(text)} characters; at most {longest}")
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise ConfigError(f"{name}: it holds half of a character")


def to_query(setting: Setting) -> str:
    """The setting as the query of a link; `from_query` is its inverse."""
    return urlencode(list(_pairs(setting)))


def _pairs(setting: Setting) -> Iterator[tuple[str, str]]:
    yield from (("to", name) for name in setting.to)
    default = Use()
    for name, use in setting.given.items():
        yield f"{name}.as", use.role
        if use.text is not None:
            yield f"{name}.text", use.text
        for field in ("weight", "keep", "strength"):
            if (value := getattr(use, field)) != getattr(default, field):
                yield f"{name}.{field}", str(value)
    yield from ((f"{name}.guidance", repr(scale)) for name, scale in setting.guidance.items())
    yield from ((name, str(getattr(setting, name))) for name in ("steps", "seed", "n"))


_NUMBERS = {"steps": int, "seed": int, "n": int, "weight": float, "strength": float, "guidance": float}
_FIELDS = ("as", "guidance", *(field.name for field in dataclasses.fields(Use) if field.name != "role"))


def from_query(query: str) -> Setting:
    """The setting of the query of a link.

    Names that begin with two underscores are others' and left out.

    Raises:
      ConfigError: an unknown name, one that is given twice, or a value of another form.
    """
    if len(query) > MAX_LINK:
        raise ConfigError(f"link: longer than {MAX_LINK} characters")
    to: list[str] = []
    given: dict[str, dict[str, Any]] = {}
    numbers: dict[str, Any] = {}
    guidance: dict[str, float] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        modality, dot, field = key.rpartition(".")
        if key.startswith("__"):
            continue
        if key == "to":
            to.append(value)
        elif not dot and key in ("steps", "seed", "n"):
            _put(numbers, key, _number(key, value), key)
        elif dot and field == "guidance":
            _put(guidance, modality, _number(key, value), key)
        elif dot and field in _FIELDS:
            name = "role" if field == "as" else field
            _put(given.setdefault(modality, {}), name, _number(key, value), key)
        else:
            raise ConfigError(f"link: unknown name {key[:40]!r}")
    return from_dict(Setting, {"to": to, "given": given, "guidance": guidance, **numbers}, "link")


def _put(where: dict[str, Any], name: str, value: Any, key: str) -> None:
    if name in where:
        raise ConfigError(f"link: {key[:40]} is given twice")
    where[name] = value


def _number(key: str, text: str) -> Any:
    """The value of a name in a link, a number if the name is one of a number."""
    kind = _NUMBERS.get(key.rpartition(".")[2])
    if kind is None:
        return text
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"link: {key[:40]}: expected a number, got {text[:40]!r}") from None


def to_json(setting: Setting, **others: Any) -> str:
    """settings.json: the setting and, beside it, what else is known of a result."""
    return json.dumps({"setting": to_dict(setting), **others}, indent=1) + "\n"


def from_json(text: str) -> Setting:
    """The setting of settings.json.

    Raises:
      ConfigError: it is no JSON, or holds no setting.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"settings.json: not JSON ({error})") from None
    if not isinstance(tree, Mapping) or "setting" not in tree:
        raise ConfigError("settings.json: has no setting")
    return from_dict(Setting, tree["setting"], "setting")
