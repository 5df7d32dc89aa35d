"""Opens untrusted files of weights, PyTorch's or safetensors, without copies."""

import os
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
# The first bytes of files of torch < 1.6: the pickle of their magic number.
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
        raise ConfigError("is a Git LFS pointer, not the file itself; fetch the file with `git lfs pull`")
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
