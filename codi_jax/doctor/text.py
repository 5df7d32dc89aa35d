"""The facts and problems as text, one thing a line, in ASCII: the terminal may have no Unicode."""

from collections.abc import Iterator, Sequence

from codi_jax.doctor.facts import Devices, Facts, Folder, Machine
from codi_jax.doctor.problems import GIB, Problem


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.2f} GiB"


def _extras(facts: Facts) -> Iterator[tuple[str, str]]:
    asked = facts.installation.dependencies
    for extra in dict.fromkeys(x.extra for x in asked if x.extra):
        ours = [x for x in asked if x.extra == extra]
        there = {x.name: f"{x.name} {x.version}" for x in ours if x.version is not None}
        missing = dict.fromkeys(x.name for x in ours if x.version is None)
        lines = [*there.values(), *([f"missing {', '.join(missing)}"] if missing else [])]
        yield f"[{extra}]", "; ".join(lines)


def _devices(found: Devices) -> Iterator[tuple[str, str]]:
    if not found.platform:
        yield "devices", f"none: {found.error}"
        return
    yield "platform", found.platform
    for group in found.groups:
        memory = "" if group.memory is None else f", {_gib(group.memory)} each"
        yield "devices", f"{group.count} x {group.kind}{memory}"
    number = "as many as the start finds" if found.processes is None else str(found.processes)
    yield "processes", f"{number} ({found.source})" if found.source else number


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
    limit = "" if machine.memory_limit is None else f", {_gib(machine.memory_limit)} of the control group"
    yield "memory", f"{_gib(machine.memory)}, {_gib(machine.memory_available)} available{limit}"
    yield "cores", f"{machine.cores} of {machine.cores_of_host}"
    yield "NVIDIA driver", machine.nvidia or "none"
    yield "TPU chips", str(machine.tpu_chips or "none")
    yield "encoding", machine.encoding


def _folder(folder: Folder) -> str:
    size = "" if folder.size is None else f"{_gib(folder.size)}, "
    writable = "writable" if folder.writable else "not writable"
    return f"{folder.path or 'none'}: {size}{writable}, {_gib(folder.free)} free"


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    ours, model, codecs = facts.installation, facts.model, facts.codecs
    yield "codi_jax", f"{ours.version}, {ours.folder}"
    yield "python", facts.machine.python
    yield "system", facts.machine.system
    for name, version in ours.versions.items():
        if version is not None or name in ("jax", "jaxlib"):
            yield name, version or "missing"
    yield from _extras(facts)
    yield from _devices(facts.devices)
    yield from _machine(facts.machine)
    yield "cache", _folder(facts.cache)
    yield "temporary", _folder(facts.temporary)
    yield "model", f"{model.name}, {_gib(model.size)}, {model.folder}" if model.name else f"not read: {model.error}"
    if codecs.pyav:
        missing = f", without {', '.join(codecs.missing)}" if codecs.missing else ", all codecs"
        yield "PyAV", f"{codecs.pyav}, FFmpeg {codecs.ffmpeg}{missing}"
    else:
        yield "PyAV", codecs.error or "missing"
    for name, value in facts.machine.environment.items():
        yield name, value


def shown(facts: Facts, found: Sequence[Problem]) -> str:
    """A table of the facts, and below it each problem as a line."""
    lines = [*_lines(facts)]
    width = max(len(name) for name, _ in lines)
    verdict = ["nothing is wrong"]
    if found:
        verdict = ["wrong:" if len(found) == 1 else f"{len(found)} things are wrong:", *(f"- {x}" for x in found)]
    return "\n".join([*(f"{name.ljust(width)}  {value}".rstrip() for name, value in lines), "", *verdict])
