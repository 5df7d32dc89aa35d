"""Audio: a wave of fixed length; a KL autoencoder of its log-mel spectrogram, a vocoder, a CLAP tower, a 2-D U-Net.

    wave → log-mel [frames, mels] → codec ↔ latent [time, mel, C];       log-mel → HiFi-GAN or Griffin-Lim → wave

The spectrogram is computed on the host, with the batch; codec and prompt encoder read the same.
"""

import base64
import dataclasses
import io

import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data import files
from codi_jax.data.mel import MelConfig, log_mel
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig, clip_outliers
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig, unit_or_zero
from codi_jax.encoders.griffin_lim import griffin_lim
from codi_jax.modalities.base import Modality, Shared
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """`config.model.modalities.audio`.

    Attributes:
      mel: the spectrogram of the codec; frames of it make a clip.
      shift, scale: the codec's mel is (log-mel - shift) · scale; 0 and 1 in the release.
      iterations: of Griffin-Lim.
    """

    mel: MelConfig
    frames: int
    codec: AutoKLConfig
    prompt: CLAPAudioConfig
    denoiser: UNetConfig
    environment: EnvironmentConfig
    shift: float = 0.0
    scale: float = 1.0
    iterations: int = 32
    components: dict[str, str] = dataclasses.field(default_factory=dict)


class Audio(Modality):
    """Media: normalised log-mel [B, frames, mels, 1]. Natural value: int16 [samples] at the mel's rate."""

    name = "audio"
    suffix = ".wav"
    Config = AudioConfig
    components = {
        "codec": "audio_codec",
        "prompt": "clap_audio",
        "denoiser": "audio_unet",
        "environment": "audio_environment",
        "cross": "audio_cross",
    }

    def __init__(self, config: AudioConfig, shared: Shared):
        super().__init__(shared, config.components)
        self.config = config
        self.unet, self.environment_config = config.denoiser, config.environment
        self.codec = AutoKL(config.codec, dtype=self.dtype)
        self.encoder = CLAPAudio(config.prompt, dtype=self.dtype)
        factor = config.codec.downscale
        grid = (config.frames, config.mel.mels)
        if any(side % factor for side in grid):
            raise ConfigError(f"config.model.modalities.audio: a mel of {grid} is not in multiples of {factor}")
        self.latent_shape = (*(side // factor for side in grid), config.codec.embed_dim)
        self._build_denoiser()

    @property
    def samples(self) -> int:
        """Length of a wave."""
        return self.config.frames * self.config.mel.hop

    def _mel(self, waves: np.ndarray) -> np.ndarray:
        mel = log_mel(waves, self.config.mel)[:, : self.config.frames]
        return ((mel - self.config.shift) * self.config.scale).astype(np.float32)[..., None]

    def prepare(self, samples):
        return self._mel(samples["audio"])

    def example(self, batch):
        return jnp.zeros((batch, self.config.frames, self.config.mel.mels, 1))

    @property
    def initialisers(self):
        return {
            "codec": lambda key: self.codec.init(key, self.example(1))["params"],
            "prompt": lambda key: self.encoder.init(key, self.example(1)[..., 0])["params"],
        }

    def encode_moments(self, params, media):
        return self.codec.apply({"params": params}, media, method="encode")

    def _decode_mel(self, params, latent):
        return self.codec.apply({"params": params}, clip_outliers(latent), method="decode")

    def decode(self, params, latent):
        """Waves [B, samples] in [-1, 1]."""
        mel = self._decode_mel(params, latent)[..., 0] / self.config.scale + self.config.shift
        return griffin_lim(mel, self.config.mel, self.config.iterations)

    def reconstruction(self, params, media, latent, key):
        """Squared error of the spectrogram, averaged."""
        del key
        error = jnp.square(self._decode_mel(params, latent).astype(jnp.float32) - media).mean((1, 2, 3))
        return error, {"mse": error.mean()}

    def embed(self, params, media, full=False):
        del full  # a sound is its own prompt
        return unit_or_zero(self.encoder.apply({"params": params}, media[..., 0]))

    def outputs(self, decoded):
        return list(files.to_int16(decoded))

    def media(self, values):
        return self._mel(np.stack([np.asarray(v, np.float32) / files.FULL for v in values]))

    def empty(self, batch):
        return jnp.asarray(self._mel(np.zeros((batch, self.samples), np.float32)))  # silence, as the release

    def read(self, argument):
        """A sound file: mono at the model's rate, its beginning; a shorter one is followed by silence."""
        return self.outputs(files.read_audio(argument, self.samples, self.config.mel.sample_rate)[None])[0]

    def write(self, value, path):
        files.write_wav(path, value, self.config.mel.sample_rate)

    def values(self, samples):
        return self.outputs(samples["audio"])

    def html(self, value):
        file = io.BytesIO()
        files.write_wav(file, value, self.config.mel.sample_rate)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<audio class="audio" controls src="data:audio/wav;base64,{data}"></audio>'
