"""Evaluation of generated samples: judges, the any-to-any matrix, joint coherence.

All metrics are computed on the factors of digit_world. A `Reader` predicts the factors of a raw value (a caption, an
image, …), and its predictions are compared with the factors of the prompt or with those of the other outputs.
`digit_world.CARRIES` lists the factors of each modality.
"""
