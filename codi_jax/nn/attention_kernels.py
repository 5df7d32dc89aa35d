"""The programs that compute attention. They differ in speed and memory, and by rounding.

    xla       scores [B, N, P, L] in memory, several times with their gradient
    chunked   the same for some heads and queries at a time, computed again in the backward pass: memory is bounded
    cudnn     cuDNN's flash attention, by `jax.nn.dot_product_attention`; no scores in memory
    splash    JAX's flash attention for TPU (Pallas); no scores in memory

Head widths need not be padded: cuDNN takes multiples of 8, and the TPU pads a width such as 40 to the 128 lanes of its
registers by itself. A product with a head width d below 128 uses d/128 of the matrix unit in all of these
programs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from codi_jax.parallel.activations import mesh_axes, shards
from codi_jax.parallel.hardware import Hardware, hardware
from codi_jax.types import Array

Kernel = Literal["auto", "xla", "chunked", "cudnn", "splash"]
CHUNK = 16 * 2**20  # bytes of the scores of a chunk on a device
ROWS = 128  # at least as many queries of a head are in a chunk, since fewer do not fill a matrix unit
BLOCK = 1024  # the largest block of queries, and of keys, in splash


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of an attention: B, P, N, d, L, the dtype of the values, and in how many parts B and N are split."""

    batch: int
    queries: int
    heads: int
    width: int
    keys: int
    dtype: str
    biased: bool
    parts: int = 1

    @property
    def score_bytes(self) -> int:
        """Bytes of the float32 scores on one device."""
        return 4 * self.batch * self.heads * self.queries * self.keys // self.parts

    def __str__(self) -> str:
        bias = ", with bias" if self.biased else ""
        return f"{self.queries} × {self.keys}, {self.heads} heads of {self.width}, {self.dtype}{bias}"


def unavailable(kernel: str, dtype: str, hardware: Hardware) -> str:
    """Why a kernel cannot compute any attention of a dtype on some hardware; empty if it can."""
    if kernel == "cudnn":
        if hardware.platform != "gpu":
            return f"it needs an NVIDIA GPU, and this is {hardware.platform}"
        if dtype not in ("bfloat16", "float16"):
            return f"it computes bfloat16 or float16, not {dtype}"
    if kernel == "splash" and hardware.platform not in ("tpu", "cpu"):
        return f"it needs a TPU (or, for tests, a CPU), and this is {hardware.platform}"
    return ""


def unsupported(kernel: str, sizes: Sizes, hardware: Hardware) -> str:
    """Why a kernel that is available cannot compute an attention of some sizes; empty if it can."""
    if kernel == "cudnn":
        limit = 256 if hardware.hopper else 128
        if sizes.width % 8 or sizes.width > limit:
            return f"heads are no multiple of 8 up to {limit}"
        if sizes.biased and (sizes.queries % 2 or sizes.keys % 2):
            return "a bias needs even lengths"
    if kernel == "splash":
        if sizes.biased:
            return "it takes no bias"
        if sizes.queries % 128 or sizes.keys % 128:
            return "lengths are no multiples of 128"
        if sizes.width > 256:
            return "heads are wider than 256"
    return ""


def xla(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """o of the formula, with all scores in memory."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("bpnd,blnd->bnpl", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bnpl,blnd->bpnd", weights, v)


def chunked(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """o of the formula, for as many heads and queries at a time as have scores of about `CHUNK` bytes on a device.

    A chunk has several heads with all queries, or one head and at least `ROWS` queries of it. Heads that are split over
    devices stay together.
    """
    batch, queries, heads, width = q.shape
    whole = 4 * (batch // shards("batch", batch)) * queries * k.shape[1]  # of the scores of one head
    fitting = (n for n in range(1, heads + 1) if heads % n == 0 and (n == 1 or n * whole <= CHUNK))
    together = heads if shards("heads", heads) > 1 else max(fitting)
    groups = heads // together

    def split(x: Array, axis: int) -> Array:
        """Groups of heads along an axis, as the first axis."""
        return jnp.moveaxis(x.reshape(*x.shape[:axis], groups, together, *x.shape[axis + 1 :]), axis, 0)

    by_head = None  # the groups of a bias that differs between heads
    if bias is not None and bias.ndim > 2 and bias.shape[-3] > 1:
        by_head = split(bias, bias.ndim - 3)

    def group(arrays: tuple[Array, Array, Array, Array | None]) -> Array:
        q, k, v, own = arrays
        return _by_queries(q, k, v, bias if own is None else own)

    out = jax.lax.map(group, (split(q, 2), split(k, 2), split(v, 2), by_head))
    return jnp.moveaxis(out, 0, 2).reshape(batch, queries, heads, width)


def _by_queries(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """o of the formula, for some queries at a time."""
    batch, queries, heads, width = q.shape
    local = batch // shards("batch", batch)
    size = max(CHUNK // (4 * local * heads * k.shape[1]), ROWS)
    count = max(queries // size, 1)
    size = -(-queries // count)
    padding = count * size - queries

    def split(x: Array, axis: int) -> Array:
        """Chunks of the queries along an axis, as the first axis."""
        x = jnp.pad(x, [(0, padding if i == axis else 0) for i in range(x.ndim)])
        return jnp.moveaxis(x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis, 0)

    by_query = None  # the chunks of a bias that differs between queries
    if bias is not None and bias.ndim > 1 and bias.shape[-2] > 1:
        by_query = split(bias, bias.ndim - 2)

    @jax.checkpoint
    def some(q: Array, own: Array | None) -> Array:
        return xla(q, k, v, bias if own is None else own)

    out = jax.lax.map(lambda x: some(*x), (split(q, 1), by_query))
    return jnp.moveaxis(out, 0, 1).reshape(batch, count * size, heads, width)[:, :queries]


def cudnn(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """o of the formula, by cuDNN."""
    if bias is not None:
        bias = bias.astype(q.dtype).reshape((1,) * (4 - bias.ndim) + bias.shape)
    return jax.nn.dot_product_attention(q, k, v, bias, implementation="cudnn")


def splash(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
    """o of the formula without bias, by Pallas; on a CPU, interpreted.

    A Pallas kernel is a program of one device, so that each device computes its part of the batch and of the heads.
    """
    assert bias is None, "splash takes no bias"
    batch, heads = mesh_axes("batch", q.shape[0]), mesh_axes("heads", q.shape[2])
    if jax.sharding.get_abstract_mesh().empty:
        return _splash(q, k, v)
    spec = PartitionSpec(batch or None, None, heads or None)
    return jax.shard_map(_splash, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q, k, v)


def _splash(q: Array, k: Array, v: Array) -> Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    (queries, heads, _), keys = q.shape[1:], k.shape[1]
    block_q, block_kv = (next(b for b in (BLOCK, 512, 256, 128) if length % b == 0) for length in (queries, keys))
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([splash_attention_mask.FullMask((queries, keys))] * heads),
        block_sizes=splash_attention_kernel.BlockSizes(
            block_q=block_q, block_kv=block_kv, block_q_dkv=block_q, block_kv_dkv=block_kv, use_fused_bwd_kernel=True
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name="attention",
        interpret=hardware().platform == "cpu",
    )
    by_head = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    out: Any = jax.vmap(kernel)(*by_head)
    return out.swapaxes(1, 2).astype(v.dtype)


KERNELS: dict[str, Callable[[Array, Array, Array, Array | None], Array]] = {
    "xla": xla,
    "chunked": chunked,
    "cudnn": cudnn,
    "splash": splash,
}
