"""The side of diffusers and PyTorch of `benchmarks.unet`."""

import dataclasses
import importlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.unet_cases import GUIDANCE, Case, Options, make_inputs
from benchmarks.workers import best_seconds

# Of the extra `parity`.
torch = importlib.import_module("torch")
diffusers = importlib.import_module("diffusers")


class Theirs:
    """diffusers' U-Net of Stable Diffusion 1.x with its random initialisation, as is and through `torch.compile`."""

    def __init__(self, options: Options, threads: int | None):
        if threads is not None:
            torch.set_num_threads(threads)
        torch.manual_seed(0)
        # On a GPU both multiply float32 matrices in TF32, the default of jax.
        torch.set_float32_matmul_precision("high" if options.device == "gpu" else "highest")
        self._options = options
        self._device = "cuda" if options.device == "gpu" else "cpu"
        self._dtype = getattr(torch, options.dtype)
        network = options.network
        channels, attend = network.get("channels", 320), network.get("attention_levels", (True, True, True, False))
        # All other settings of Stable Diffusion 1.x are the defaults of the class.
        net = diffusers.UNet2DConditionModel(
            in_channels=4,
            out_channels=4,
            block_out_channels=tuple(channels * m for m in network.get("multipliers", (1, 2, 4, 4))),
            layers_per_block=network.get("blocks", (2,))[0],
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attend),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
            cross_attention_dim=options.context_width,
            attention_head_dim=8,  # the number of heads, a known misnomer of diffusers
        )
        importlib.import_module("safetensors.torch").save_file(
            {key: value.contiguous() for key, value in net.state_dict().items()}, options.weights
        )
        self._net = self._placed(net)
        self._compiled: dict[int, Any] = {}
        self._prepared: dict[Any, dict[str, Any]] = {}

    def _placed(self, net: Any) -> Any:
        net = net.to(self._device)
        return net.to(memory_format=torch.channels_last) if self._options.channels_last else net

    @cached_property
    def _cast(self) -> Any:
        if self._dtype == torch.float32:
            return self._net
        net = diffusers.UNet2DConditionModel.from_config(self._net.config)
        net.load_state_dict(self._net.state_dict())
        return self._placed(net.to(self._dtype))

    def _module(self, net: Any, compiled: bool) -> Any:
        if not compiled:
            return net
        if id(net) not in self._compiled:
            self._compiled[id(net)] = torch.compile(net, dynamic=False)
        return self._compiled[id(net)]

    def describe(self) -> dict[str, Any]:
        """Number of parameters, and the device."""
        kind = torch.cuda.get_device_name() if self._device == "cuda" else "cpu"
        return {"parameters": sum(p.numel() for p in self._net.parameters()), "device": kind}

    def _inputs(self, case: Case, dtype: Any) -> dict[str, Any]:
        key = (dataclasses.replace(case, measure="", steps=1), dtype)
        if key not in self._prepared:
            inputs = make_inputs(self._options, case)
            layout = torch.channels_last if self._options.channels_last else torch.contiguous_format
            arrays = {name: torch.from_numpy(x).to(self._device) for name, x in vars(inputs).items()}
            for name in ("z", "noise"):
                arrays[name] = arrays[name].movedim(-1, 1).to(dtype, memory_format=layout)
            self._prepared[key] = {**arrays, **{name: arrays[name].to(dtype) for name in ("context", "null")}}
        return self._prepared[key]

    def run(self, case: Case, compiled: bool) -> Any:
        """Runs a case to its end; the first time with `compiled`, it is compiled. Gradients are dropped."""
        out = self._run(case, compiled)
        self._net.zero_grad(set_to_none=True)
        return out

    def _run(self, case: Case, compiled: bool) -> Any:
        measure: dict[str, Callable[[Case, bool], Any]] = {
            "forward": self._forward,
            "gradient": self._gradient,
            "sampling": self._sampling,
        }
        return self._wait(measure[case.measure](case, compiled))

    def _forward(self, case: Case, compiled: bool) -> Any:
        net, inputs = self._module(self._cast, compiled), self._inputs(case, self._dtype)
        with torch.no_grad():
            return net(inputs["z"], inputs["t"], inputs["context"]).sample

    def _gradient(self, case: Case, compiled: bool) -> Any:
        net, inputs = self._module(self._net, compiled), self._inputs(case, torch.float32)
        with torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32):
            prediction = net(inputs["z"], inputs["t"], inputs["context"]).sample
        loss = torch.nn.functional.mse_loss(prediction.float(), inputs["noise"])
        loss.backward()
        return loss.detach()

    def _sampling(self, case: Case, compiled: bool) -> Any:
        """The loop of diffusers' StableDiffusionPipeline, with the timesteps of ours."""
        net, inputs = self._module(self._cast, compiled), self._inputs(case, self._dtype)
        scheduler = diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            timestep_spacing="trailing",
        )  # fmt: skip
        scheduler.set_timesteps(case.steps, device=self._device)
        z, context = inputs["z"], torch.cat([inputs["null"], inputs["context"]])
        with torch.no_grad():
            for t in scheduler.timesteps:
                both = scheduler.scale_model_input(torch.cat([z] * 2), t)
                null, prompted = net(both, t, encoder_hidden_states=context, return_dict=False)[0].chunk(2)
                z = scheduler.step(null + GUIDANCE * (prompted - null), t, z, return_dict=False)[0]
        return z

    def values(self, case: Case) -> dict[str, np.ndarray]:
        """As in `unet_jax.Ours`."""
        result = self._run(case, False)
        if case.measure != "gradient":
            return {"output": result.float().movedim(1, -1).cpu().numpy()}
        gradients = [p.grad for p in self._net.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((g.float().square().sum() for g in gradients), torch.zeros((), device=self._device)))
        first = self._net.conv_in.weight.grad
        assert first is not None
        return {"loss": result.cpu().numpy(), "norm": norm.cpu().numpy(), "first": first.float().cpu().numpy()}

    def release(self) -> None:
        """Drops gradients and, on a GPU, gives cached memory back, so that the other process finds it free."""
        self._net.zero_grad(set_to_none=True)
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def matmul_rate(self, size: int, seconds: float) -> float:
        """FLOP/s of a product of two [size, size] matrices in the dtype of computation: the best of some seconds."""
        x = torch.full((size, size), 1e-3, dtype=self._dtype, device=self._device)
        return 2 * size**3 / best_seconds(lambda: self._wait(x @ x), seconds)

    def copy_rate(self, size: int, seconds: float) -> float:
        """Bytes a second that are read and written in copies of `size` bytes: the best of some seconds."""
        x = torch.ones(size // 4, device=self._device)
        y = torch.empty_like(x)
        return 2 * size / best_seconds(lambda: self._wait(y.copy_(x)), seconds)

    def _wait(self, result: Any) -> Any:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return result

    def peak_device_bytes(self) -> int:
        """The peak of GPU memory since the last call; 0 on CPU."""
        if self._device == "cpu":
            return 0
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
