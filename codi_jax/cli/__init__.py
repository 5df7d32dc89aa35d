"""`codi-jax VERB`: plan, train, generate, evaluate, report; package models; convert and export public checkpoints.

A run is a config and a workdir. `train` takes --config=NAME[:argument] and overrides --config.a.b=value (flags of
ml_collections) and saves the resolved config in the workdir; the other verbs need only the workdir. `generate` without
a workdir uses the packaged model.

Exit codes: 0 success; 1 evaluated, with results below the floors of the config, or `doctor` has found something wrong;
2 invalid input, a full disk, or a directory that cannot be written (the error is one line); 69 the processes of a
distributed run (see `codi_jax.parallel.distributed`) could not connect; 75 stopped by SIGTERM with everything saved,
run it again.

Each verb is a module with a line of `HELP`, its options (`add_arguments`) and what it does (`run`). Packages that are
slow to import are imported by `run`.
"""

from codi_jax.cli.entry import main

__all__ = ["main"]
