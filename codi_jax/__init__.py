"""CoDi (Composable Diffusion) in JAX."""

__version__ = "0.1.0"
