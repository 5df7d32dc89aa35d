"""The U-Nets of the CoDi release: their constructor arguments and the names of their parameters.

One U-Net file of the release holds three of our components: the U-Net, the environment encoder (`connecters_out`) and
the cross-modal attention (`input_block_connecters_in`, `output_block_connecters_in`; sic). Our blocks have the numbers
of the release. The index of a layer within a block depends on the other layers of the block, so the tables are built
from the config.
"""

from collections.abc import Mapping
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.interop.names import Rule, affine, at, norm
from codi_jax.nn.config import BlockConfig, EnvironmentConfig, UNetConfig
from codi_jax.nn.layout import BlockSpec, environment_steps, input_steps, output_steps

BODY = ("time_embed", "input_blocks", "middle_block", "output_blocks", "out")
ENVIRONMENT = ("connecters_out",)
CROSS = ("input_block_connecters_in", "output_block_connecters_in")


def owned_by_others(parts: tuple[str, ...]) -> list[str]:
    """Patterns, for `from_release(ignore=...)`, of the keys of a U-Net file outside `parts`."""
    return [rf"{part}\..*" for part in BODY + ENVIRONMENT + CROSS if part not in parts]


def _constant(name: str, values: Any) -> int:
    values = tuple(values) if hasattr(values, "__iter__") else (values,)
    if len(set(values)) != 1:
        raise ConfigError(f"{name}: the number of tokens must be the same on every level, got {values}")
    return values[0]


def unet_config_from_release(
    args: Mapping[str, Any], kind: str | None = None
) -> tuple[UNetConfig, EnvironmentConfig | None, int]:
    """Translates the constructor arguments of one of the release's U-Nets.

    Args:
      args: the arguments by name; absent ones have the release's default.
      kind: "spatial" or "vector"; by default "vector" if `args` has `second_dim`.

    Returns:
      The configs of the U-Net and of its environment encoder (None if `init_connector` is false), and E.

    Raises:
      ConfigError: a structure that no public checkpoint has.
    """
    kind = kind or ("vector" if "second_dim" in args else "spatial")
    if args.get("output_channels", args["input_channels"]) != args["input_channels"]:
        raise ConfigError("output_channels: must equal input_channels, the channels of the latent")
    levels = len(tuple(args.get("channel_mult", (1, 2, 4, 8))))
    connectors = args.get("init_connector", True)
    width = args.get("connector_output_channel", 1280)
    common = {
        "kind": kind,
        "latent_channels": args["input_channels"],
        "channels": args["model_channels"],
        "groups": args.get("groups", 32),
        "temporal": bool(args.get("use_video_architecture", False)),
        "temporal_divisor": args.get("video_dim_scale_factor", 4),
    }
    unet = UNetConfig(
        **common,
        vector_tokens=_constant("second_dim", args.get("second_dim", 4)),
        context_width=args.get("context_dim", 768),
        multipliers=tuple(args.get("channel_mult", (1, 2, 4, 8))),
        blocks=tuple(args.get("num_noattn_blocks", (2, 2, 2, 2))),
        attention_levels=tuple(args.get("with_attn", (True, True, True, False))),
        cross_modal_levels=tuple(args.get("with_connector", (True, True, True, False)))
        if connectors
        else (False,) * levels,
        heads=args.get("num_heads", 8),
    )
    if not connectors:
        return unet, None, width
    environment = EnvironmentConfig(
        **common,
        vector_tokens=_constant("second_dim_connector", args.get("second_dim_connector", 4)),
        width=width,
        multipliers=tuple(args.get("channel_mult_connector", (1, 2, 4))),
        blocks=tuple(args.get("num_noattn_blocks_connector", (1, 1, 1))),
        tokens="pooled",
        normalize=True,
    )
    return unet, environment, width


def _layer(config: BlockConfig, dense: str) -> str:
    return "conv2d" if config.kind == "spatial" else dense


def _residual(config: BlockConfig) -> list[Rule]:
    layer = _layer(config, "pointwise2")
    return [
        *norm("in_layers.0", "norm_in"),
        *affine("in_layers.2", "layer_in", layer),
        *affine("emb_layers.1", "emb"),
        *norm("out_layers.0", "norm_out"),
        *affine("out_layers.3", "layer_out", layer),
        *affine("skip_connection", "skip", "pointwise2"),
    ]


_TEMPORAL = [
    Rule("temporal_attn.pos_embeds", "attention/positions", "table"),
    Rule("temporal_attn.frame_rate_embeds", "attention/frame_rate", "table"),
    Rule("temporal_attn.norm.g", "attention/norm/scale"),
    *affine("temporal_attn.to_q", "attention/query", bias=False),
    *affine("temporal_attn.to_kv", "attention/key_value", bias=False),
    *affine("temporal_attn.to_out", "attention/out", bias=False),
    *affine("temporal_rel_pos_bias.net.0.0", "attention/bias/layer_0"),
    *affine("temporal_rel_pos_bias.net.1.0", "attention/bias/layer_1"),
    *affine("temporal_rel_pos_bias.net.2", "attention/bias/layer_2"),
    *affine("ff.proj_in.0", "feed_forward/layer_in", "pointwise3", bias=False),
    Rule("ff.proj_out.0.g", "feed_forward/norm/scale", "gain_c111"),
    *affine("ff.proj_out.1", "feed_forward/layer_out", "pointwise3", bias=False),
    *norm("frameshiftblock.out_layers.0", "frame_shift/norm"),
    *affine("frameshiftblock.out_layers.2", "frame_shift/conv", "conv2d"),
]


def _attention(theirs: str, ours: str) -> list[Rule]:
    return at(
        theirs,
        ours,
        [
            *affine("to_q", "query", bias=False),
            *affine("to_k", "key", bias=False),
            *affine("to_v", "value", bias=False),
            *affine("to_out.0", "out"),
        ],
    )


TRANSFORMER = [
    *norm("norm", "norm"),
    *affine("proj_in", "project_in", "pointwise2"),
    *at(
        "transformer_blocks.0",
        "",
        [
            *norm("norm1", "norm_self"),
            *_attention("attn1", "self"),
            *norm("norm2", "norm_cross"),
            *_attention("attn2", "cross"),
            *norm("norm3", "norm_feed_forward"),
            *affine("ff.net.0.proj", "feed_forward/layer_in"),
            *affine("ff.net.2", "feed_forward/layer_out"),
        ],
    ),
    *affine("proj_out", "project_out", "pointwise2"),
]


def _pair(config: BlockConfig, theirs: str, ours: str, suffix: str = "") -> list[Rule]:
    """A residual block; in the video architecture, the first of a pair whose second is the temporal layer."""
    if not config.temporal:
        return at(theirs, f"{ours}/residual{suffix}", _residual(config))
    return [
        *at(f"{theirs}.0", f"{ours}/residual{suffix}", _residual(config)),
        *at(f"{theirs}.1", f"{ours}/temporal{suffix}", _TEMPORAL),
    ]


def _step(config: BlockConfig, theirs: str, ours: str, step: BlockSpec) -> list[Rule]:
    layer = _layer(config, "linear")
    if step.content == "stem":
        return affine(f"{theirs}.0", f"{ours}/stem", layer)
    if step.content == "down":
        return affine(f"{theirs}.0.op" if config.kind == "spatial" else f"{theirs}.0", f"{ours}/down", layer)
    rules = _pair(config, f"{theirs}.0", ours)
    if step.attend:
        rules += at(f"{theirs}.1", f"{ours}/attend", TRANSFORMER)
    if step.up:
        last = f"{theirs}.{1 + step.attend}"
        spatial = config.kind == "spatial"
        rules += affine(f"{last}.conv" if spatial else last, f"{ours}/up/conv" if spatial else f"{ours}/up", layer)
    return rules


def body_rules(config: UNetConfig) -> list[Rule]:
    """The table of `codi_jax.nn.UNet`."""
    rules = [*affine("time_embed.0", "time/layer_in"), *affine("time_embed.2", "time/layer_out")]
    for theirs, steps in (("input_blocks", input_steps(config)), ("output_blocks", output_steps(config))):
        for step in steps:
            side, i = step.place
            rules += _step(config, f"{theirs}.{i}", f"{side}_{i}", step)
    rules += _pair(config, "middle_block.0", "middle", "_0")
    rules += at("middle_block.1", "middle/attend", TRANSFORMER)
    rules += _pair(config, "middle_block.2", "middle", "_1")
    return [*rules, *norm("out.0", "head/norm"), *affine("out.2", "head/layer", _layer(config, "linear"))]


def environment_rules(config: EnvironmentConfig) -> list[Rule]:
    """The table of `codi_jax.nn.EnvironmentEncoder`."""
    steps = environment_steps(config)
    rules = []
    for i, step in enumerate(steps):
        rules += _step(config, f"connecters_out.{i}", f"stages_{i}", step)
    head = f"connecters_out.{len(steps)}"
    return [*rules, *norm(f"{head}.0", "head/norm"), *affine(f"{head}.2", "head/layer", _layer(config, "linear"))]


def cross_rules(config: UNetConfig) -> list[Rule]:
    """The table of `codi_jax.nn.CrossModalAttention`."""
    sides = (("input_block_connecters_in", input_steps(config)), ("output_block_connecters_in", output_steps(config)))
    rules = []
    for theirs, steps in sides:
        for step in (s for s in steps if s.connect):
            side, i = step.place
            rules += at(f"{theirs}.{i}.0", f"{side}_{i}", TRANSFORMER)
    return rules
