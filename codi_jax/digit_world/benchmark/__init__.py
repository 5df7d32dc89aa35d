"""The any-to-any benchmark of digit_world: every direction, joint sets, unseen combinations, floors and a verdict.

All metrics are computed on the factors of digit_world. A `Reader` (see `digit_world.judges`) predicts the factors of a
raw value (a caption, an image, …), and its predictions are compared with the factors of the prompt or with those of the
other outputs. `digit_world.CARRIES` lists the factors of each modality.
"""
