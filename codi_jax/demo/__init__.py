"""`codi-jax demo`: a page made by the packaged model at once; then a model of one's own, trained, measured, judged."""
