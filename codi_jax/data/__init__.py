"""Data: sources of samples, their order, and the batches of a training step. Independent of the models."""

import os

# Only the tokenizers of transformers are used here, so its warning about a missing torch is silenced.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
