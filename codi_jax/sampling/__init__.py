"""Joint sampling of latents: the guided prediction of every output, and the loop over sampler steps."""
