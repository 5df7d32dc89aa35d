"""The Hugging Face hub: names of repositories, downloads and uploads by huggingface_hub, model cards.

repository.py    hf://org/name@revision, its files in huggingface_hub's cache, and uploads of a folder
card.py          README.md of a model: YAML front matter, how to load it, its numbers

It knows files, not models: what is in them is read by `codi_jax.packaged`.
"""
