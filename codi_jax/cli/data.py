"""`codi-jax data`."""

import argparse
import pprint
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codi_jax.cli.common import add_workdir, local_path, names_config, refuse_arguments, run_of, split_config
from codi_jax.cli.train import train
from codi_jax.config import ConfigError

HELP = "inspect a data set or the sources of a config, or encode them once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    add_workdir(parser, config=True)
    parser.epilog = (
        f"{parser.epilog} `inspect PATH` needs neither: it says what a folder, a table, or tars are, and prints the "
        "config that reads them."
    )
    parser.add_argument(
        "what",
        choices=("inspect", "encode"),
        help="inspect [PATH]: decode and describe some samples; encode: run the encode stages",
    )
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="only this source (repeatable)")
    parser.add_argument(
        "--n", type=int, default=100, help="number of samples to decode, spread evenly over the source (100)"
    )
    parser.add_argument("--out", type=local_path, help="directory for a contact sheet of each source")


def run(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Prints a description of every source, or trains the encode stages."""
    from codi_jax.data.inspection import inspect
    from codi_jax.progress import ProgressLines

    if args.what == "encode":
        if args.workdir is None:
            raise ConfigError("data encode needs --workdir=DIRECTORY with the stages that it depends on finished")
        return train(args.workdir, rest, objective="encode")
    if paths := split_config(rest)[1]:
        if args.workdir is not None or args.source or names_config(rest) or any(path.startswith("-") for path in paths):
            refuse_arguments(paths)
        return _inspect_paths(paths, args.n, args.out)
    sources = run_of(args, rest).config.sources
    names = args.source or list(sources)
    if unknown := [name for name in names if name not in sources]:
        raise ConfigError(f"no source {unknown[0]!r} in this config; it has {', '.join(sources)}")
    for name in names:
        out = args.out / name if args.out else None
        print(f"{name}: {inspect(sources[name], f'sources.{name}', args.n, out, ProgressLines())}")


def _inspect_paths(paths: Sequence[str], n: int, out: Path | None) -> None:
    """Prints what is at each path, and the config that reads it."""
    from codi_jax.data.inspection import inspect
    from codi_jax.data.recognition import recognize
    from codi_jax.progress import ProgressLines

    for path in paths:
        found = recognize(path)
        lenient = {**found.config, "faults": {"max_bad_fraction": 1.0}}
        folder = out / Path(path).name if out else None
        print(f"{path}: {found.what}\n{inspect(lenient, 'source', n, folder, ProgressLines())}")
        config = pprint.pformat(found.config, sort_dicts=False, width=100)
        print("\n".join([*found.notes, *_finetune(found.config), "", config]))


def _finetune(config: Mapping[str, Any]) -> list[str]:
    """The command that fine-tunes a model on a recognized data set; none if it has no captions, or captions only."""
    from codi_jax.data.table_columns import CAPTION

    modalities = config["media"]["modalities"]
    data = {"manifest" if key == "path" else key: x for key, x in config.items() if key not in ("name", "media")}
    columns = data.get("columns", {})
    if CAPTION not in modalities or len(modalities) < 2 or any(isinstance(x, tuple) for x in columns.values()):
        return []
    fields = {"columns": columns, "join": data.get("join", {})}
    flat = {key: x for key, x in data.items() if key not in fields}
    flat |= {f"{key}.{name}": x for key, inner in fields.items() for name, x in inner.items()}
    source = ",source=webdataset" if config["name"] == "webdataset" else ""
    flags = [f"--config=finetune:modalities={'+'.join(modalities)}{source}"]
    flags += [f"--config.data.{key}={x}" for key, x in flat.items()]
    return ["", f"codi-jax train {shlex.join(flags)} --workdir=DIRECTORY"]
