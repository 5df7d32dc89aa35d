"""Files of weights of either format, PyTorch's and safetensors, opened without copying and without trusting them."""

from pathlib import Path

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.interop.mapped import map_file
from codi_jax.interop.pth import Item, read_pth, write_pth
from codi_jax.interop.safetensors_file import is_safetensors, read_safetensors

__all__ = ["Item", "open_state", "write_pth"]

_LEGACY = (
    "refused: this is the legacy PyTorch format; load and save it again with torch >= 1.6: "
    "torch.save(torch.load(OLD, weights_only=True), NEW)"
)
# How torch < 1.6 begins: the pickle of its magic number.
_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")


def _read(data: np.ndarray) -> dict[str, np.ndarray]:
    head = data[:512].tobytes()
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return read_pth(data)
    if head[2:].startswith(_LEGACY_MAGIC) or head[257:262] == b"ustar":
        raise ConfigError(_LEGACY)
    if is_safetensors(head):
        return read_safetensors(data)
    if head.startswith(b"version https://git-lfs"):
        raise ConfigError("is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`")
    if head[:1] == b"\x80" and head[1:2] <= b"\5":
        raise ConfigError("refused: it is a bare pickle, which can run any program; no tensors are read from it")
    raise ConfigError("is neither a PyTorch archive nor a safetensors file")


def open_state(path: str | Path) -> dict[str, np.ndarray]:
    """Opens a file of weights; its content decides which format it is of.

    The file is mapped into memory and stays so as long as any of the arrays lives; it must not be changed meanwhile.
    The checksums of a PyTorch archive's tensors are not computed, since that would be reading all of it.

    Args:
      path: of a PyTorch archive (.pth, .pt, .bin, .ckpt) or of a safetensors file.

    Returns:
      Key -> read-only view of the file. The keys of nested dicts are joined by dots; what is not a tensor is left out.

    Raises:
      ConfigError: one line that names the file and what is wrong with it.
    """
    path = Path(path)
    try:
        return _read(map_file(path))
    except ConfigError as error:
        name = str(path) if str(path).isprintable() else repr(str(path))
        raise ConfigError(f"{name}: {error}") from None
