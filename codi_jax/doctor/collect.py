"""Collects all facts, in a few seconds."""

from collections.abc import Mapping, Sequence

from codi_jax.doctor import probe
from codi_jax.doctor.ask import Answer, ask
from codi_jax.doctor.facts import Codecs, DeviceGroup, Devices, Facts, PackagedModel
from codi_jax.doctor.machine import cache_folder, read_machine, temporary_folder
from codi_jax.doctor.requirements import read_installation


def to_devices(answer: Answer, seconds: float) -> Devices:
    """The devices, of an answer within so many seconds."""
    if answer.values is None:
        return Devices(error=answer.error, seconds=None if answer.in_time else seconds, warning=answer.warning)
    groups = tuple(DeviceGroup(*group) for group in answer.values["groups"])
    return Devices(**{**answer.values, "groups": groups}, warning=answer.warning)


def to_codecs(answer: Answer) -> Codecs:
    """The codecs of an answer."""
    if answer.values is None:
        return Codecs(error=answer.error)
    return Codecs(**{**answer.values, "missing": tuple(answer.values.get("missing", ()))})


def collect(environment: Mapping[str, str], seconds: float, plugins: Sequence[str] = ()) -> Facts:
    """All facts.

    Args:
      environment: variables, `os.environ`.
      seconds: time limit of what is asked in processes.
      plugins: modules to import.
    """
    questions = {"devices": (), "model": (), "codecs": (), **({"plugins": plugins} if plugins else {})}
    answers = ask(questions, probe.environment(environment), seconds)
    model = answers["model"]
    return Facts(
        installation=read_installation(),
        machine=read_machine(environment),
        devices=to_devices(answers["devices"], seconds),
        cache=cache_folder(environment),
        temporary=temporary_folder(),
        model=PackagedModel(error=model.error) if model.values is None else PackagedModel(**model.values),
        codecs=to_codecs(answers["codecs"]),
        plugin_error=answers["plugins"].error if plugins else "",
    )
