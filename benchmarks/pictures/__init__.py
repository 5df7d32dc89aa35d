"""The pictures of docs/concepts.md, drawn from activations of the packaged model on real samples."""
