"""`codi-jax doctor`: versions, devices, memory, folders, variables, and what is wrong with them."""

import argparse
import os
import sys
from collections.abc import Sequence

from codi_jax.cli.common import number, refuse_arguments
from codi_jax.config import ConfigError
from codi_jax.exit_codes import EXIT_PROBLEMS

HELP = "print what is installed and what this machine is, and what is wrong with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.epilog = "Exits with 0 if nothing is wrong, with 1 otherwise."
    parser.add_argument("--json", action="store_true", help='print {"facts", "problems"} as JSON')
    parser.add_argument("--timeout", default="120", metavar="SECONDS", help="wait so long for the devices (120)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints the facts and the problems; exits with EXIT_PROBLEMS if there are any.

    Raises:
      ConfigError: --timeout is no positive number, or there are other arguments.
    """
    refuse_arguments(rest)
    import dataclasses
    import json

    from codi_jax.doctor.collect import collect
    from codi_jax.doctor.problems import problems
    from codi_jax.doctor.text import shown

    seconds = number("--timeout", args.timeout, float)
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--timeout: expected a positive number, got {args.timeout!r}")
    plugins = [name for name in map(str.strip, args.plugins.split(",")) if name]
    facts = collect(os.environ, seconds, plugins)
    found = problems(facts)
    if args.json:
        print(json.dumps({"facts": dataclasses.asdict(facts), "problems": [*map(dataclasses.asdict, found)]}, indent=1))
    else:
        text, encoding = shown(facts, found), sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding))  # paths may have any letters
    if found:
        sys.exit(EXIT_PROBLEMS)
