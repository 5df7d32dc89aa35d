"""Data: sources of samples, their order, and the batches that a step takes. Knows no model."""

import os

# transformers serves tokenizers here; that it finds no torch is as it should be, and not worth a line on every start.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
