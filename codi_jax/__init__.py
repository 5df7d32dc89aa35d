"""CoDi (Composable Diffusion) in JAX."""

import os

__version__ = "0.1.0"

# numpy works in reading threads beside XLA; threads of its own would only fight for the same cores. It reads this once,
# when it is first imported, and who has set it otherwise is left alone.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
