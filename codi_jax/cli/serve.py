"""`codi-jax serve`: the playground, a page on which people generate with one model."""

import argparse
import ipaddress
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from codi_jax.cli.common import add_workdir, names_file, number, refuse_arguments, split_config
from codi_jax.cli.models import open_model
from codi_jax.config import ConfigError

HELP = "serve the playground, a page to generate on; with the packaged model unless a run is named"
RELEASE = "codi:compat=release"  # what `convert` makes of the public checkpoints
_LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.epilog = (
        f"{parser.epilog} Beside a workdir or a packaged model, "
        "--config.generate.a=value overrides a setting of generation."
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a packaged model, a folder written by `package` or `save_pretrained`, or hf://org/name (digit_world)",
    )
    parser.add_argument(
        "--weights",
        metavar="FOLDER",
        help="a folder written by `convert`, or hf://org/name; of the public release, unless --config names another "
        "model",
    )
    parser.add_argument(
        "--host",
        default=_LOOPBACK,
        help=f"address to answer on ({_LOOPBACK}: this machine alone); 0.0.0.0 for everybody who reaches this machine",
    )
    parser.add_argument("--port", default="7860", help="(7860); 0 for a free one")
    parser.add_argument("--max-n", help="samples that a request may ask for (8)")
    parser.add_argument("--max-steps", help="steps that a request may ask for (100)")
    parser.add_argument("--max-megabytes", help="of a file (20)")
    parser.add_argument("--max-seconds", help="of an audio or video file (60)")
    parser.add_argument("--max-waiting", help="requests that wait, of all clients (200)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Serves until it is interrupted."""
    from codi_jax.sampling.prompts import PromptWarning
    from codi_jax.serve.page import gradio_module
    from codi_jax.serve.playground import Playground, PlaygroundLimits
    from codi_jax.serve.queue import QueueLimits
    from codi_jax.serve.server import Server
    from codi_jax.serve.setting import Limits

    gradio_module()
    port = number("--port", args.port, int)
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port: expected 0 to 65535, got {port}")
    config, rest = split_config(rest)
    refuse_arguments(rest)
    if args.weights is not None:
        if not names_file(config):
            config = [f"--config={RELEASE}", *config]
        config.append(f"--config.weights={args.weights}")
    bounds = {
        "n": _limit("--max-n", args.max_n, int),
        "steps": _limit("--max-steps", args.max_steps, int),
        "megabytes": _limit("--max-megabytes", args.max_megabytes, float),
        "seconds": _limit("--max-seconds", args.max_seconds, float),
    }
    waiting = _limit("--max-waiting", args.max_waiting, int)
    limits = PlaygroundLimits(
        request=Limits(**{name: value for name, value in bounds.items() if value is not None}),
        queue=QueueLimits() if waiting is None else QueueLimits(waiting=waiting),
    )
    model = open_model(args, _step_by_step(config), keep=True)
    warnings.filterwarnings("ignore", category=PromptWarning)  # the page shows what they say
    play = Playground(model.pipe, model.title, limits)
    server = Server(play, args.host, port)
    play.warm_up()
    print(f"codi-jax: {model.title or 'a run'}", file=sys.stderr)
    if not _is_loopback(args.host):
        print(f"codi-jax: everybody who reaches {args.host} can generate here", file=sys.stderr)
    print(server.url, flush=True)
    server.run()


def _step_by_step(config: list[str]) -> list[str]:
    """The overrides with the host loop, on accelerators, too: it has previews, and a request can be cancelled in it."""
    named = any(argument.startswith("--config.generate.loop") for argument in config)
    return config if named else [*config, "--config.generate.loop=host"]


def _limit(option: str, text: str | None, kind: type) -> Any:
    if text is None:
        return None
    value = number(option, text, kind)
    if not 0 < value < float("inf"):
        raise ConfigError(f"{option}: expected a positive number, got {text!r}")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
