"""What generation is worth: judges, the any-to-any matrix, joint coherence.

Everything is counted by the factors of digit_world: a value (a caption, a picture, …) is read back into factors by a
`Reader`, and what was read is compared with what the prompt says or with what the other outputs say. Which modality
carries which factor is the world's to know.
"""
