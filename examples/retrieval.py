"""Finds captions for images by aligned embeddings: `python examples/retrieval.py`."""

import codi_jax
from codi_jax.metrics.base import compute
from codi_jax.metrics.retrieval import Retrieval

CAPTIONS = [f"a {colour} {digit}" for colour in ("red", "green", "blue") for digit in ("two", "five", "seven")]


def main(captions: list[str] = CAPTIONS, k: int = 3) -> list[list[str]]:
    """Generates an image for every caption and prints the k captions that are nearest to it, which it returns."""
    pipe = codi_jax.load("digit_world")
    images = pipe({"text": captions}, to="image", seed=0).image
    embeddings = pipe.embed({"text": captions, "image": images})  # {modality: [n, D]}, of unit norm
    cosine = embeddings["image"] @ embeddings["text"].T
    nearest = [[captions[j] for j in row[:k]] for row in (-cosine).argsort(axis=1)]
    for caption, found in zip(captions, nearest, strict=True):
        print(f"{caption:12} → {', '.join(found)}")
    numbers = compute(Retrieval(("image", "text")), [(embeddings["image"], embeddings["text"])])
    print(f"the first is right for {numbers['image_to_text/recall_1']:.0%} of {len(captions)}")
    return nearest


if __name__ == "__main__":
    main()
