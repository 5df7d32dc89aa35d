"""Audio: waves of fixed length; a KL autoencoder of log-mel spectrograms, a vocoder, a CLAP tower, a 2-D U-Net.

    wave → log-mel [frames, mels] → codec ↔ latent [time, mel, C];       log-mel → HiFi-GAN or Griffin-Lim → wave

The spectrogram is computed on the host. Codec and prompt encoder read the same one, unless `prompt_mel` gives the
prompt encoder another front end, as in the public release (`data.mel`). There the codec's wave has 16 kHz, zero mean
and a peak of 1/2, and CLAP's has 48 kHz and ten seconds:

    wave → resampled → repeated and padded, or cropped, to prompt_samples → log-mel in dB [frames', mels]

The position of the crop is drawn with a seed made of `prompt_seed` and a checksum of the wave, so that the prompt of a
wave does not depend on its batch. (The release draws it without a seed.)

With a `vocoder` latents are decoded as in the release: z is clipped if it has outliers
(`encoders.autokl.clip_outliers`), denormalised and decoded; HiFi-GAN makes the wave, a few samples longer than
`samples` (32 with the public weights), and all of them are kept.
"""

import dataclasses
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from codi_jax.config import ConfigError, config_class
from codi_jax.encoders.autokl import AutoKL, AutoKLConfig, clip_outliers
from codi_jax.encoders.clap import CLAPAudio, CLAPAudioConfig, unit_or_zero
from codi_jax.encoders.griffin_lim import griffin_lim
from codi_jax.encoders.hifigan import HiFiGAN, HiFiGANConfig
from codi_jax.media import files
from codi_jax.media.audio import Audio, beginning, player
from codi_jax.media.joined import join_waveforms
from codi_jax.media.mel import MelConfig, clap_waveform, log_mel, normalize
from codi_jax.media.sheet import spectrogram
from codi_jax.modalities.base import Modality, ModelDims, decode_by_codec, register
from codi_jax.modalities.parts import blocks, in_spans, spans, spread
from codi_jax.nn.calls import apply, init
from codi_jax.nn.config import TimingConfig
from codi_jax.nn.environment import EnvironmentConfig
from codi_jax.nn.unet import UNetConfig


@config_class()
class AudioConfig:
    """`config.model.modalities.audio`.

    Attributes:
      mel: the spectrogram of the codec.
      frames: frames of the spectrogram; a wave has frames · hop samples.
      shift, scale: the codec's input is (log-mel - shift) · scale; 0 and 1 in the release.
      iterations: of Griffin-Lim.
      components: role -> component name, see `Modality.__init__`.
      normalize: subtract the mean of the codec's waves and scale them to a peak of 1/2 (`mel.normalize`),
        as in the release.
      prompt_mel: front end of the prompt encoder; None for the codec's.
      prompt_samples: length of its waves, at the rate of `prompt_mel`.
      prompt_seed: seed of the crops of longer waves for it.
      vocoder: HiFi-GAN, instead of Griffin-Lim.
      timing: attention in time; None for none.
      reads_parts: whether parts of values have a prompt encoder of their own (`objectives.parts`).
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
    normalize: bool = False
    prompt_mel: MelConfig | None = None
    prompt_samples: int = 480_000
    prompt_seed: int = 0
    vocoder: HiFiGANConfig | None = None
    timing: TimingConfig | None = None
    reads_parts: bool = False


@register("audio")
class AudioModality(Modality[AudioConfig]):
    """Media: normalised log-mel [B, frames, mels, 1]; with `prompt_mel`, {"mel": that, "prompt": the prompt encoder's
    [B, frames', mels']}. Raw value: int16 [samples] at the rate of `mel`. The codec crops longer waves at the end and
    pads shorter ones with zeros; a prompt encoder with its own front end repeats shorter ones."""

    name = "audio"
    part_axes = (0,)
    suffix = ".wav"
    Config = AudioConfig
    components = {
        "codec": "audio_codec",
        "prompt": "clap_audio",
        "denoiser": "audio_unet",
        "environment": "audio_environment",
        "cross": "audio_cross",
    }

    def __init__(self, config: AudioConfig, dims: ModelDims):
        if config.vocoder is not None:
            self.components = {**self.components, "vocoder": "vocoder"}
        super().__init__(config, dims)
        self.codec = AutoKL(config.codec, dtype=self.dtype)
        self.encoder = CLAPAudio(config.prompt, dtype=self.dtype, remat=dims.remat)
        self.vocoder = None if config.vocoder is None else HiFiGAN(config.vocoder, dtype=self.dtype)
        self._check_sizes()
        factor = config.codec.downscale
        self.latent_shape = (config.frames // factor, config.mel.mels // factor, config.codec.embed_dim)
        self._build_denoiser()

    def _check_sizes(self) -> None:
        config, grid = self.config, (self.config.frames, self.config.mel.mels)
        factor = config.codec.downscale * config.denoiser.reduction
        self._require(
            config.frames > 0 and not any(side % factor for side in grid),
            f": frames and mels {grid} are not multiples of {factor}",
        )
        self._require(config.prompt_seed >= 0, f".prompt_seed: {config.prompt_seed} is negative")
        frames, mels = self._prompt_shape
        self._require(
            mels == config.prompt.mel_bins and frames <= config.prompt.frames,
            f".prompt: takes {config.prompt.mel_bins} mels, up to {config.prompt.frames} frames; got {mels}, {frames}",
        )
        if (vocoder := config.vocoder) is not None:
            ours, expected = (config.mel.mels, config.mel.hop), (vocoder.mels, math.prod(vocoder.rates))
            self._require(ours == expected, f".vocoder: needs (mels, hop) {expected}, but mel has {ours}")

    @property
    def samples(self) -> int:
        """Samples of a wave."""
        return self.config.frames * self.config.mel.hop

    @property
    def duration(self):
        return self.samples / self.config.mel.sample_rate

    @property
    def value_format(self):
        return {"samples": self.samples, "rate": self.config.mel.sample_rate}

    @property
    def _prompt_shape(self) -> tuple[int, int]:
        """Frames and mels of the prompt encoder's input."""
        config = self.config
        if config.prompt_mel is None:
            return config.frames, config.mel.mels
        return 1 + config.prompt_samples // config.prompt_mel.hop, config.prompt_mel.mels

    def _codec_wave(self, waves: np.ndarray) -> np.ndarray:
        """Waves [B, T] padded or cropped, and normalised if configured, for the codec: [B, samples]."""
        if self.config.normalize:
            return normalize(waves, self.samples)
        return np.pad(waves[:, : self.samples], ((0, 0), (0, max(0, self.samples - waves.shape[1]))))

    def _mel(self, waves: np.ndarray) -> np.ndarray:
        """The codec's input [B, frames, mels, 1] from waves [B, samples]."""
        mel = log_mel(waves, self.config.mel)[:, : self.config.frames]
        return ((mel - self.config.shift) * self.config.scale).astype(np.float32)[..., None]

    def _prompt_mel(self, wave: np.ndarray, mel: MelConfig) -> np.ndarray:
        """The prompt encoder's input [1, frames', mels'] from a wave [1, T], with its own front end `mel`."""
        config = self.config
        seed = [config.prompt_seed, zlib.crc32(files.to_int16(wave).tobytes())]
        wave = clap_waveform(wave, config.mel.sample_rate, config.prompt_samples, seed, new_rate=mel.sample_rate)
        return log_mel(wave, mel)

    def prepare(self, samples):
        waves = samples["audio"]
        if self.config.prompt_mel is None and waves.dtype != np.int16:
            return self._mel(self._codec_wave(waves))
        return self.preprocess(self.raw_from_batch(samples))

    def example(self, batch):
        mel = jnp.zeros((batch, self.config.frames, self.config.mel.mels, 1))
        return (
            mel if self.config.prompt_mel is None else {"mel": mel, "prompt": jnp.zeros((batch, *self._prompt_shape))}
        )

    def codec_input(self, media):
        return media if self.config.prompt_mel is None else media["mel"]

    def _prompt(self, media):
        return media[..., 0] if self.config.prompt_mel is None else media["prompt"]

    @property
    def initialisers(self):
        makers = {
            "codec": lambda key: init(self.codec, key, self.codec_input(self.example(1))),
            "prompt": lambda key: init(self.encoder, key, self._prompt(self.example(1))),
        }
        if (vocoder := self.vocoder) is not None:
            mel = jnp.zeros((1, 2, self.config.mel.mels))  # parameters do not depend on the length
            makers["vocoder"] = lambda key: init(vocoder, key, mel)
        return makers

    def ignored(self, values):
        del values  # all of a sound that `raw_from_user` keeps is read
        return ()

    def encode_moments(self, params, media):
        return apply(AutoKL.encode, self.codec, params, self.codec_input(media))

    def _decode_mel(self, params, latent):
        return apply(AutoKL.decode, self.codec, params, clip_outliers(latent))

    def _log_mel(self, mel):
        """Log-mel [B, frames, mels] from the codec's output [B, frames, mels, 1]."""
        return mel[..., 0] / self.config.scale + self.config.shift

    def decode(self, params, latent):
        """Waves [B, samples] in [-1, 1], by the codec and Griffin-Lim."""
        return griffin_lim(self._log_mel(self._decode_mel(params, latent)), self.config.mel, self.config.iterations)

    def decode_latent(self, variables, z):
        """Waves [B, samples] by Griffin-Lim, or with a vocoder [B, vocoder.samples(frames)]; in [-1, 1]."""
        if self.vocoder is None:
            return decode_by_codec(self, variables, z)
        latent = self.denormalize(variables, clip_outliers(z))
        mel = apply(AutoKL.decode, self.codec, self.component(variables, "codec"), latent)
        return apply(HiFiGAN.__call__, self.vocoder, self.component(variables, "vocoder"), self._log_mel(mel))

    def reconstruction(self, params, media, latent, key):
        """Mean squared error of the spectrogram."""
        del key
        error = jnp.square(self._decode_mel(params, latent).astype(jnp.float32) - self.codec_input(media)).mean(
            (1, 2, 3)
        )
        return error, {"mse": error.mean()}

    def embed(self, params, media, untruncated=False):
        del untruncated  # audio prompts are not truncated
        return unit_or_zero(apply(CLAPAudio.__call__, self.encoder, params, self._prompt(media)))

    def postprocess(self, decoded):
        return list(files.to_int16(decoded))

    def preprocess(self, values):
        waves = [np.asarray(v, np.float32)[None] / files.FULL for v in values]
        mel = self._mel(np.concatenate([self._codec_wave(wave) for wave in waves]))
        if (front_end := self.config.prompt_mel) is None:
            return mel
        return {"mel": mel, "prompt": np.concatenate([self._prompt_mel(wave, front_end) for wave in waves])}

    def empty(self, batch):
        """Silence, as in the release."""
        silence = self.preprocess([np.zeros(self.samples, np.int16)])
        return jax.tree.map(lambda x: jnp.asarray(np.repeat(x, batch, 0)), silence)

    def raw_from_user(self, value):
        """Takes the beginning of an audio file, of an `Audio`, or of a waveform [L] at the model's rate.

        Files are mixed to mono. Samples are float in [-1, 1] or int16; all are resampled to the model's rate and padded
        with zeros to `samples`.
        """
        rate = self.config.mel.sample_rate
        if isinstance(value, (np.ndarray, jax.Array)):
            value = Audio(np.asarray(value), rate)
        if isinstance(value, Audio):
            wave = files.fit_waveform(*self._given_waveform(value), self.samples, rate)
        elif (file := files.given_file(value)) is not None:
            wave = files.read_audio(file, self.samples, rate)
        else:
            raise self._unexpected(value, "a file, an Audio(samples, rate) or an array [L]")
        return self.postprocess(wave[None])[0]

    def _given_waveform(self, audio: Audio) -> tuple[np.ndarray, int]:
        """The beginning of a user's waveform, float32 [L], and its rate; as much as is read of a file.

        Raises:
          ConfigError: samples of another type or shape, NaN or infinite ones, or an impossible rate.
        """
        samples = np.asarray(audio.samples)
        if samples.ndim != 1 or not samples.size or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
            raise self._unexpected(samples, "float or int16 [L]")
        if not 0 < audio.rate <= files.MAX_RATE or audio.rate != int(audio.rate):
            raise ConfigError(f"{self.name}: a rate of {audio.rate} samples a second")
        rate = int(audio.rate)
        wave = beginning(Audio(samples, rate), self.samples, self.config.mel.sample_rate)
        if not np.isfinite(wave).all():
            raise ConfigError(f"{self.name}: NaN or infinite samples")
        return wave, rate

    def kept(self, condition, value):
        """Spans of time; bool [samples]."""
        if condition.keep is None:
            raise ConfigError(f"{self.name}: it has no mask; give keep, spans of seconds, such as 0-0.5s")
        times = np.arange(len(value)) / self.config.mel.sample_rate
        return in_spans(times, spans(condition.keep, self.name))

    def latent_mask(self, kept):
        fitted = np.pad(kept[: self.samples], (0, max(0, self.samples - len(kept))))
        return blocks(fitted, self.latent_shape[:1])[:, None, None].astype(np.float32)

    def hide(self, media, mask):
        """Other frames of the spectrogram are silent."""
        mel, silence = self._prompt(media), self._prompt(self.empty(1))
        hidden = jnp.where(spread(mask[..., 0], (len(mask), mel.shape[1], 1)) > 0, mel, silence)
        return hidden[..., None] if self.config.prompt_mel is None else {**media, "prompt": hidden}

    def composite(self, generated, value, kept):
        """Kept samples as they are; the others joined to them without steps, in the loudness of the value."""
        return join_waveforms(generated, value, kept, self.config.mel.sample_rate, self.config.normalize)

    def user_from_raw(self, value):
        """`Audio`: float32 samples in [-1, 1] and the model's rate."""
        return Audio(value.astype(np.float32) / files.FULL, self.config.mel.sample_rate)

    def write(self, value, path):
        files.write_wav(path, value, self.config.mel.sample_rate)

    def raw_from_batch(self, samples):
        waves = samples["audio"]
        return list(waves) if waves.dtype == np.int16 else self.postprocess(waves)

    def preview(self, values):
        """The spectrograms in a row."""
        return np.concatenate([spectrogram(wave, self.config.mel.sample_rate) for wave in values], axis=1)

    def html(self, value):
        return player(value, self.config.mel.sample_rate)
