"""Any to any in ten lines, with the model inside the package: `python examples/quickstart.py [folder]`."""

import sys

import codi_jax


def main(folder: str, prompt: str = "a red seven") -> codi_jax.Output:
    pipe = codi_jax.load("digit_world")
    out = pipe({"text": prompt}, to=pipe.modalities, n=2, seed=0)  # generated together, so that they agree
    back = pipe({"image": out.image[0]}, to="text")  # an image of Pillow, a path or an array
    print(f"{prompt} → image → {back.text[0]}")
    print(*out.save(folder), sep="\n")
    return out


if __name__ == "__main__":
    main(*sys.argv[1:] or ["out/quickstart"])
