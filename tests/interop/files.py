"""Keys and shapes of files of the public families at any size, taken from the code of their projects."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from codi_jax.interop.tensors import Item, write_pth

Shapes = dict[str, tuple[int, ...]]


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    """A kernel with output channels first and, by default, a bias."""
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def filled(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def save(path: Path, state: Mapping[str, np.ndarray], ties: Sequence[tuple[str, str]] = ()) -> Path:
    """Writes a PyTorch archive and returns its path; see `write_pth` for ties."""
    tied = dict(ties)
    items = [Item(k, v.shape, v.dtype, lambda v=v: np.asarray(v)) for k, v in state.items() if k not in tied]
    write_pth(path, items, tied)
    return path


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


def joined(parts: Iterable[Shapes]) -> Shapes:
    return {key: shape for part in parts for key, shape in part.items()}


def residual(name: str, before: int, after: int, time: int | None) -> Shapes:
    """A residual block of diffusers."""
    out = layer(f"{name}.norm1", before) | layer(f"{name}.conv1", after, before, 3, 3)
    if time:
        out |= layer(f"{name}.time_emb_proj", after, time)
    out |= layer(f"{name}.norm2", after) | layer(f"{name}.conv2", after, after, 3, 3)
    return out | (layer(f"{name}.conv_shortcut", after, before, 1, 1) if before != after else {})


def transformer(name: str, width: int, context: int) -> Shapes:
    """A transformer of Stable Diffusion 1.x."""
    block = f"{name}.transformer_blocks.0"
    out = layer(f"{name}.norm", width) | layer(f"{name}.proj_in", width, width, 1, 1)
    for attention, source in (("attn1", width), ("attn2", context)):
        out |= layer(f"{block}.{attention}.to_q", width, width, bias=False)
        out |= layer(f"{block}.{attention}.to_k", width, source, bias=False)
        out |= layer(f"{block}.{attention}.to_v", width, source, bias=False)
        out |= layer(f"{block}.{attention}.to_out.0", width, width)
    out |= layer(f"{block}.ff.net.0.proj", 8 * width, width) | layer(f"{block}.ff.net.2", width, 4 * width)
    out |= joined(layer(f"{block}.norm{n}", width) for n in (1, 2, 3))
    return out | layer(f"{name}.proj_out", width, width, 1, 1)


def diffusers_unet(widths=(320, 640, 1280, 1280), attend=(1, 1, 1, 0), blocks=2, context=768, latent=4) -> Shapes:
    """UNet2DConditionModel; by default that of Stable Diffusion 1.5."""
    first, time, levels = widths[0], 4 * widths[0], range(len(widths))
    out = layer("conv_in", first, latent, 3, 3) | layer("time_embedding.linear_1", time, first)
    out |= layer("time_embedding.linear_2", time, time)
    skips, now = [first], first
    for level in levels:
        for block in range(blocks):
            out |= residual(f"down_blocks.{level}.resnets.{block}", now, widths[level], time)
            now = widths[level]
            skips.append(now)
            if attend[level]:
                out |= transformer(f"down_blocks.{level}.attentions.{block}", now, context)
        if level < levels[-1]:
            out |= layer(f"down_blocks.{level}.downsamplers.0.conv", now, now, 3, 3)
            skips.append(now)
    for block in (0, 1):
        out |= residual(f"mid_block.resnets.{block}", now, now, time)
    out |= transformer("mid_block.attentions.0", now, context)
    for up, level in enumerate(reversed(levels)):
        for block in range(blocks + 1):
            out |= residual(f"up_blocks.{up}.resnets.{block}", now + skips.pop(), widths[level], time)
            now = widths[level]
            if attend[level]:
                out |= transformer(f"up_blocks.{up}.attentions.{block}", now, context)
        if level:
            out |= layer(f"up_blocks.{up}.upsamplers.0.conv", now, now, 3, 3)
    return out | layer("conv_norm_out", first) | layer("conv_out", latent, first, 3, 3)


def diffusers_autokl(widths=(128, 256, 512, 512), blocks=2, latent=4, names="to_q to_k to_v to_out.0") -> Shapes:
    """AutoencoderKL; by default that of Stable Diffusion 1.5. `names`: those of the four attention matrices."""
    top, levels, out = widths[-1], range(len(widths)), {}
    for side, start in (("encoder", 3), ("decoder", latent)):
        down = side == "encoder"
        out |= layer(f"{side}.conv_in", widths[0] if down else top, start, 3, 3)
        now = widths[0] if down else top
        for index, level in enumerate(levels if down else reversed(levels)):
            stage = f"{side}.{'down' if down else 'up'}_blocks.{index}"
            for block in range(blocks if down else blocks + 1):
                out |= residual(f"{stage}.resnets.{block}", now, widths[level], None)
                now = widths[level]
            if index < levels[-1]:
                out |= layer(f"{stage}.{'down' if down else 'up'}samplers.0.conv", now, now, 3, 3)
        middle = f"{side}.mid_block"
        out |= joined(residual(f"{middle}.resnets.{n}", top, top, None) for n in (0, 1))
        out |= layer(f"{middle}.attentions.0.group_norm", top)
        out |= joined(layer(f"{middle}.attentions.0.{name}", top, top) for name in names.split())
        out |= layer(f"{side}.conv_norm_out", now) | layer(f"{side}.conv_out", 2 * latent if down else 3, now, 3, 3)
    out |= layer("quant_conv", 2 * latent, 2 * latent, 1, 1)
    return out | layer("post_quant_conv", latent, latent, 1, 1)


def clip_layers(prefix: str, width: int, layers: int, inner: int) -> Shapes:
    out = {}
    for n in range(layers):
        name = f"{prefix}.encoder.layers.{n}"
        out |= joined(layer(f"{name}.self_attn.{part}_proj", width, width) for part in ("k", "v", "q", "out"))
        out |= layer(f"{name}.layer_norm1", width) | layer(f"{name}.layer_norm2", width)
        out |= layer(f"{name}.mlp.fc1", inner, width) | layer(f"{name}.mlp.fc2", width, inner)
    return out


def clip_text(width: int, layers: int, inner: int, vocab: int, positions: int) -> Shapes:
    """The text tower of CLIPModel as in files of 2022, with `position_ids`."""
    out = layer("text_model.embeddings.token_embedding", vocab, width, bias=False)
    out |= layer("text_model.embeddings.position_embedding", positions, width, bias=False)
    out |= {"text_model.embeddings.position_ids": (1, positions)}
    return out | clip_layers("text_model", width, layers, inner) | layer("text_model.final_layer_norm", width)


def clip_vision(width: int, layers: int, inner: int, patch: int, cells: int) -> Shapes:
    """The vision tower of CLIPModel as in files of 2022, with `position_ids`."""
    out: Shapes = {"vision_model.embeddings.class_embedding": (width,)}
    out |= layer("vision_model.embeddings.patch_embedding", width, 3, patch, patch, bias=False)
    out |= layer("vision_model.embeddings.position_embedding", cells + 1, width, bias=False)
    out |= {"vision_model.embeddings.position_ids": (1, cells + 1)}
    out |= layer("vision_model.pre_layrnorm", width) | clip_layers("vision_model", width, layers, inner)
    return out | layer("vision_model.post_layernorm", width)


def open_clip(
    width: int, layers: int, inner: int, vocab: int, positions: int, patch: int, cells: int, out: int, text: str = ""
) -> Shapes:
    """CLIP of OpenAI's code and of open_clip; `text` is the prefix of the text tower."""

    def blocks(prefix: str) -> Shapes:
        shapes: Shapes = {}
        for n in range(layers):
            name = f"{prefix}transformer.resblocks.{n}"
            shapes |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
            shapes |= layer(f"{name}.attn.out_proj", width, width)
            shapes |= layer(f"{name}.ln_1", width) | layer(f"{name}.ln_2", width)
            shapes |= layer(f"{name}.mlp.c_fc", inner, width) | layer(f"{name}.mlp.c_proj", width, inner)
        return shapes

    shapes = {"visual.class_embedding": (width,), "visual.positional_embedding": (cells + 1, width)}
    shapes |= {"visual.proj": (width, out), "visual.conv1.weight": (width, 3, patch, patch), "logit_scale": ()}
    shapes |= layer("visual.ln_pre", width) | layer("visual.ln_post", width) | blocks("visual.")
    tower = {"positional_embedding": (positions, width), "text_projection": (width, out)} | blocks("")
    tower |= {"token_embedding.weight": (vocab, width)} | layer("ln_final", width)
    return shapes | under(text, tower)


def clap(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, mels: int, out_width: int) -> Shapes:
    """ClapModel without fusion, with a few keys of its text tower."""
    root = "audio_model.audio_encoder"
    out = layer(f"{root}.patch_embed.proj", width, 1, 4, 4) | layer(f"{root}.patch_embed.norm", width)
    for stage, depth in enumerate(depths):
        c = width << stage
        for n in range(depth):
            block = f"{root}.layers.{stage}.blocks.{n}"
            attention = f"{block}.attention.self"
            out |= layer(f"{block}.layernorm_before", c) | layer(f"{block}.layernorm_after", c)
            out |= {f"{attention}.relative_position_bias_table": ((2 * window - 1) ** 2, heads[stage])}
            out |= {f"{attention}.relative_position_index": (window**2, window**2)}
            out |= joined(layer(f"{attention}.{part}", c, c) for part in ("query", "key", "value"))
            out |= layer(f"{block}.attention.output.dense", c, c)
            out |= layer(f"{block}.intermediate.dense", 4 * c, c) | layer(f"{block}.output.dense", c, 4 * c)
        if stage + 1 < len(depths):
            out |= layer(f"{root}.layers.{stage}.downsample.reduction", 2 * c, 4 * c, bias=False)
            out |= layer(f"{root}.layers.{stage}.downsample.norm", 4 * c)
    out |= layer(f"{root}.batch_norm", mels) | layer(f"{root}.norm", c)
    out |= {f"{root}.batch_norm.running_mean": (mels,), f"{root}.batch_norm.running_var": (mels,)}
    out |= {f"{root}.batch_norm.num_batches_tracked": (), "logit_scale_a": (), "logit_scale_t": ()}
    out |= layer("audio_projection.linear1", out_width, c) | layer("audio_projection.linear2", out_width, out_width)
    out |= layer("text_model.encoder.layer.0.attention.self.query", 8, 8) | {"text_model.embeddings.position_ids": (9,)}
    return out | layer("text_projection.linear1", out_width, 8) | layer("text_projection.linear2", out_width, out_width)


def bert(width: int, layers: int, inner: int, vocab: int, positions: int) -> Shapes:
    """BertModel."""
    sizes = {"word": vocab, "position": positions, "token_type": 2}
    out = joined(layer(f"embeddings.{name}_embeddings", n, width, bias=False) for name, n in sizes.items())
    out |= layer("embeddings.LayerNorm", width) | {"embeddings.position_ids": (1, positions)}
    for n in range(layers):
        name = f"encoder.layer.{n}"
        out |= joined(layer(f"{name}.attention.self.{part}", width, width) for part in ("query", "key", "value"))
        out |= layer(f"{name}.attention.output.dense", width, width) | layer(
            f"{name}.attention.output.LayerNorm", width
        )
        out |= layer(f"{name}.intermediate.dense", inner, width) | layer(f"{name}.output.dense", width, inner)
        out |= layer(f"{name}.output.LayerNorm", width)
    return out | layer("pooler.dense", width, width)


def gpt2(width: int, layers: int, vocab: int, positions: int) -> Shapes:
    """GPT2Model as in files of 2019, with causal masks; matrices are [in, out]."""
    out: Shapes = {"wte.weight": (vocab, width), "wpe.weight": (positions, width)}
    for n in range(layers):
        name = f"h.{n}"
        out |= layer(f"{name}.ln_1", width) | layer(f"{name}.ln_2", width)
        shapes = {"attn.c_attn": (width, 3), "attn.c_proj": (width, 1), "mlp.c_fc": (width, 4)}
        for part, (before, times) in shapes.items():
            out |= {f"{name}.{part}.weight": (before, times * width), f"{name}.{part}.bias": (times * width,)}
        out |= {f"{name}.mlp.c_proj.weight": (4 * width, width), f"{name}.mlp.c_proj.bias": (width,)}
        out |= {f"{name}.attn.bias": (1, 1, positions, positions), f"{name}.attn.masked_bias": ()}
    return out | layer("ln_f", width)


def hifigan(channels: int, kernels: tuple[int, ...], mels: int, res_kernels: tuple[int, ...], layers: int) -> Shapes:
    """The original generator, with weight norms fused."""
    out, block = layer("conv_pre", channels, mels, 7), 0
    for n, kernel in enumerate(kernels):
        out |= {f"ups.{n}.weight": (channels, channels // 2, kernel), f"ups.{n}.bias": (channels // 2,)}
        channels //= 2
        for size in res_kernels:
            for convs in ("convs1", "convs2"):
                names = [f"resblocks.{block}.{convs}.{i}" for i in range(layers)]
                out |= joined(layer(name, channels, channels, size) for name in names)
            block += 1
    return out | layer("conv_post", 1, channels, 7)


def inception(divisor: int = 1, classes: int = 1008) -> Shapes:
    """FID's Inception-v3, by default that of `pt_inception-2015-12-05-6726825d.pth`."""
    out: Shapes = {}

    def conv(name: str, before: int, after: int, height: int = 1, width: int = 1) -> None:
        before, after = before // divisor if before > 3 else before, after // divisor
        out.update({f"{name}.conv.weight": (after, before, height, width)} | layer(f"{name}.bn", after))
        out.update({f"{name}.bn.running_mean": (after,), f"{name}.bn.running_var": (after,)})
        out.update({f"{name}.bn.num_batches_tracked": ()})

    def chain(name: str, now: int, *layers: tuple[int, int, int]) -> None:
        """Layers NAME1, NAME2, …, each of (width, height, width of the kernel)."""
        for n, (after, height, width) in enumerate(layers, 1):
            conv(f"{name}{n}", now, after, height, width)
            now = after

    for name, sizes in {
        "1a_3x3": (3, 32, 3, 3),
        "2a_3x3": (32, 32, 3, 3),
        "2b_3x3": (32, 64, 3, 3),
        "3b_1x1": (64, 80),
        "4a_3x3": (80, 192, 3, 3),
    }.items():
        conv(f"Conv2d_{name}", *sizes)
    for letter, now, pool in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
        root = f"Mixed_5{letter}.branch"
        conv(f"{root}1x1", now, 64)
        chain(f"{root}5x5_", now, (48, 1, 1), (64, 5, 5))
        chain(f"{root}3x3dbl_", now, (64, 1, 1), (96, 3, 3), (96, 3, 3))
        conv(f"{root}_pool", now, pool)
    conv("Mixed_6a.branch3x3", 288, 384, 3, 3)
    chain("Mixed_6a.branch3x3dbl_", 288, (64, 1, 1), (96, 3, 3), (96, 3, 3))
    for letter, c in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
        root = f"Mixed_6{letter}.branch"
        conv(f"{root}1x1", 768, 192)
        chain(f"{root}7x7_", 768, (c, 1, 1), (c, 1, 7), (192, 7, 1))
        chain(f"{root}7x7dbl_", 768, (c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7))
        conv(f"{root}_pool", 768, 192)
    chain("Mixed_7a.branch3x3_", 768, (192, 1, 1), (320, 3, 3))
    chain("Mixed_7a.branch7x7x3_", 768, (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3))
    for letter, now in (("b", 1280), ("c", 2048)):
        root = f"Mixed_7{letter}.branch"
        conv(f"{root}1x1", now, 320)
        chain(f"{root}3x3_", now, (384, 1, 1))
        chain(f"{root}3x3dbl_", now, (448, 1, 1), (384, 3, 3))
        for name in ("3x3_2", "3x3dbl_3"):
            conv(f"{root}{name}a", 384, 384, 1, 3)
            conv(f"{root}{name}b", 384, 384, 3, 1)
        conv(f"{root}_pool", now, 192)
    return out | layer("fc", classes, 2048 // divisor)


def vggish(channels: tuple[int, ...] = (64, 128, 256, 512), hidden: int = 4096, embedding: int = 128) -> Shapes:
    """Torchvggish's `VGG(make_layers(), …)`, by default that of `vggish-10086976.pth`."""
    a, b, c, d = channels
    pairs = {0: (a, 1), 3: (b, a), 6: (c, b), 8: (c, c), 11: (d, c), 13: (d, d)}
    out = joined(layer(f"features.{n}", *pair, 3, 3) for n, pair in pairs.items())
    sizes = {0: (hidden, d * 6 * 4), 2: (hidden, hidden), 4: (embedding, hidden)}
    return out | joined(layer(f"embeddings.{n}", *size) for n, size in sizes.items())
