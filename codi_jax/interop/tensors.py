"""Opens untrusted files of weights, PyTorch's or safetensors, without copies."""

import os
from pathlib import Path

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import map_file
from codi_jax.interop.pth import Item, read_pth, write_pth
from codi_jax.interop.pth_legacy import MAGIC_BYTES, read_legacy
from codi_jax.interop.safetensors_file import is_safetensors, read_safetensors

__all__ = ["Item", "open_state", "write_pth"]

_OTHERS = (  # the first bytes of other files that people take for weights
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch the file with `git lfs pull`"),
    (b"<", "is a web page, which a download gave in place of the file; log in or accept its licence, and fetch again"),
    (b"GGUF", "is a GGUF file, whose weights are quantized; give the safetensors or PyTorch file"),
    (b"\x89HDF", "is an HDF5 file of Keras; give the safetensors or PyTorch file of the same weights"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (b"\x93NUMPY", "is an array of numpy, not tensors by name"),
)


def _read(data: np.ndarray) -> dict[str, np.ndarray]:
    head = data[:512].tobytes()
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return read_pth(data)
    if head[2:].startswith(MAGIC_BYTES):
        return read_legacy(data)
    if head[257:262] == b"ustar":
        raise ConfigError(
            "refused: this is a tar, the format of PyTorch before 0.1.10, or an archive to unpack; "
            "load and save it again with torch: torch.save(torch.load(OLD, weights_only=True), NEW)"
        )
    if is_safetensors(head):
        return read_safetensors(data)
    for begins, what in _OTHERS:
        if head.lstrip().startswith(begins):
            raise ConfigError(what)
    if head[:1] == b"\x80" and head[1:2] <= b"\5":
        raise ConfigError("refused: it is a bare pickle, which can run arbitrary code")
    raise ConfigError("is neither a PyTorch archive nor a safetensors file")


def open_state(path: str | Path) -> dict[str, np.ndarray]:
    """Opens a file of weights; the format is detected by its content.

    The file stays mapped into memory as long as any of the arrays is alive, and must not change during that time. The
    checksums of the tensors in a PyTorch archive are not verified, since that would read the whole file.

    Args:
      path: of a PyTorch archive (.pth, .pt, .bin, .ckpt) or of a safetensors file.

    Returns:
      Key -> read-only view of the file. The keys of nested dicts are joined by dots; other values are skipped.

    Raises:
      ConfigError: one line that names the file and the problem.
    """
    path = Path(os.path.expanduser(path))
    try:
        return _read(map_file(path))
    except ConfigError as error:
        name = str(path) if str(path).isprintable() else repr(str(path))
        raise ConfigError(f"{name}: {error}") from None
