"""`codi-jax demo`: a page of samples of the packaged model; then a model is trained from scratch and evaluated."""
