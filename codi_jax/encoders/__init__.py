"""Pretrained families: what turns media into latents and prompts, and latents into media. Sizes are config."""
