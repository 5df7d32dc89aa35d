"""What generation is worth: judges, the any-to-any matrix, joint coherence."""
