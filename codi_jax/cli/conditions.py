"""Options of the command line for what is given of outputs: --hold, --mask, --edit, --strength, --reconstruction."""

import argparse
import re
from collections.abc import Iterable
from typing import Any

from codi_jax.cli.common import number
from codi_jax.condition import BEGINNING, Condition
from codi_jax.config import ConfigError

_PART = re.compile(r"(?P<file>.+):(?P<part>[\d.,\-]*\d\.?s?(?:,[\d.\-]+s?)*)")

_DOTS = ("…", "...")  # behind the words that a text begins with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    group = parser.add_argument_group("what is given of outputs: it is kept as it is, and the rest goes with it")
    group.add_argument(
        "--hold",
        action="append",
        default=[],
        metavar="A=FILE[:PART]",
        help="keep all of it, or a part: audio=a.wav, video=c.mp4:0-1s, video=c.mp4:0,7 (frames), 'text=a red …' (the "
        "words it begins with), image=p.png with --mask",
    )
    group.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="A=FILE",
        help="what is white is generated, black is kept",
    )
    group.add_argument(
        "--edit",
        action="append",
        default=[],
        metavar="A=FILE",
        help="change it: start from its noise, by --strength",
    )
    group.add_argument(
        "--strength", action="append", default=[], metavar="A=x", help="share of the steps of --edit, by output (.6)"
    )
    group.add_argument(
        "--reconstruction",
        action="append",
        default=[],
        metavar="A=w",
        help="guidance by the part that is kept, by output (0; 10 is a good one, at three times the time)",
    )


def parse(args: argparse.Namespace) -> dict[str, Condition]:
    """The conditions of the arguments.

    Raises:
      ConfigError: another form, one output twice, or an option without the one it belongs to.
    """
    held, masks, edited = (_values(name, getattr(args, name)) for name in ("hold", "mask", "edit"))
    strengths = _numbers("--strength", args.strength, edited, "--edit NAME=FILE")
    parts = {name for name, value in held.items() if name in masks or _PART.fullmatch(value)}
    parts |= edited.keys() & masks.keys()
    scales = _numbers("--reconstruction", args.reconstruction, parts, "a part that --hold or --mask keeps")
    if both := [name for name in held if name in edited]:
        raise ConfigError(f"--hold and --edit of {both[0]}: use only one of them; a --mask keeps a part of --edit")
    for option, given in (("--mask", masks), ("--strength", strengths), ("--reconstruction", scales)):
        for name in given:
            if name not in held and name not in edited:
                raise ConfigError(f"{option} {name}: needs --hold {name}=FILE or --edit {name}=FILE")
    if late := [name for name in strengths if name not in edited]:
        raise ConfigError(f"--strength {late[0]}: is for --edit {late[0]}=FILE")
    out = {}
    for name, value in held.items():
        if words := next((value.removesuffix(dots).strip() for dots in _DOTS if value.endswith(dots)), None):
            out[name] = Condition(words, keep=BEGINNING)
            continue
        match = _PART.fullmatch(value)
        if match and name in masks:
            raise ConfigError(f"--hold {name}={value}: gives a part, and --mask another; use only one of them")
        file, part = (match["file"], match["part"]) if match else (value, None)
        out[name] = Condition(file, keep=part, mask=masks.get(name), reconstruction=scales.get(name, 0.0))
    for name, value in edited.items():
        strength, scale = strengths.get(name, 0.6), scales.get(name, 0.0)
        out[name] = Condition(value, mask=masks.get(name), strength=strength, reconstruction=scale)
    return out


def _values(option: str, given: Iterable[str]) -> dict[str, str]:
    """Output -> value of arguments NAME=VALUE."""
    out: dict[str, str] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not equals or not name.strip() or not value:
            raise ConfigError(f"--{option}: expected NAME=FILE, such as image=p.png, got {argument!r}")
        if name.strip() in out:
            raise ConfigError(f"--{option} {name.strip()} is given twice")
        out[name.strip()] = value
    return out


def _numbers(option: str, given: Iterable[str], outputs: Iterable[str], needs: str) -> dict[str, Any]:
    """Output -> number; a number alone is that of all these outputs, of which the error says how to give one."""
    out: dict[str, Any] = {}
    for argument in given:
        name, _, value = argument.rpartition("=")
        names = [name.strip()] if name.strip() else list(outputs)
        if not names:
            raise ConfigError(f"{option}: needs {needs}")
        out |= dict.fromkeys(names, number(option, value, float))
    return out
