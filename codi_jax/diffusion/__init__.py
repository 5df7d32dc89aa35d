"""The mathematics of diffusion, in jax alone: schedules, process, losses, guidance and samplers."""
