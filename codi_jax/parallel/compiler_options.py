"""Options of the compiler for the programs of a run: the backend's own defaults, changed by `config.compiler_options`.

An option is a field of XLA's debug options or, on a TPU, a flag of libtpu, such as

    --config.compiler_options.xla_tpu_scoped_vmem_limit_kib=65536

Options for this package's programs are chosen by measurement; `docs/performance.md` has the table. None is set by
default: on CPU none was faster, and for accelerators none has been measured yet.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from codi_jax.config import ConfigError, first_line
from codi_jax.parallel.sharding import replicated


def check(options: Mapping[str, Any], mesh: Mesh) -> None:
    """Compiles a small program with the options for the devices of a mesh.

    Raises:
      ConfigError: the compiler does not know an option, or its value.
    """
    if not options:
        return
    x = jax.ShapeDtypeStruct((), "float32", sharding=replicated(mesh))
    platform = mesh.devices.flat[0].platform
    try:
        program = jax.jit(lambda x: x + 1, compiler_options=dict(options))
        program.trace(x).lower(lowering_platforms=(platform,)).compile()
    except jax.errors.JaxRuntimeError as error:
        message = first_line(error).removeprefix("INVALID_ARGUMENT: ")
        raise ConfigError(f"config.compiler_options: {message} (compiling for {platform})") from None
