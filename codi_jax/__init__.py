"""CoDi (Composable Diffusion) in JAX."""

__version__ = "0.2.0"
