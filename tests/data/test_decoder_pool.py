"""Decoding in a subprocess: equal to decoding in this process, and errors when it crashes or hangs."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codi_jax.data import decoder_pool
from codi_jax.data.decoder_pool import DecoderPool, SubprocessDecoder
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile

RATE = 8000


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "x.mp4"
    files.write_video(path, np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8), 8.0)
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "x.wav"
    files.write_wav(path, np.arange(9000, dtype=np.int16), RATE)
    return path


@pytest.fixture(scope="module")
def flac(tmp_path_factory):
    path = tmp_path_factory.mktemp("flac") / "x.flac"
    soundfile.write(path, np.arange(9000, dtype=np.int16), RATE)
    return path


@pytest.fixture
def decoder():
    decoder = SubprocessDecoder(timeout_s=60.0)
    yield decoder
    decoder.close()


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_subprocess_decodes_like_this_process(decoder, video, audio):
    for file in (MediaFile(str(video), start=0.25), MediaFile("in memory", video.read_bytes())):
        np.testing.assert_array_equal(decoder.read_video(file, 6, 8.0, 16), files.read_video(file, 6, 8.0, 16))
    first = decoder._process.pid
    for file in (MediaFile(str(audio), duration=0.5), MediaFile("in memory", audio.read_bytes())):
        np.testing.assert_array_equal(decoder.read_audio(file, 5000, RATE), files.read_audio(file, 5000, RATE))
        assert decoder.seconds(file) == files.seconds(file) == (file.duration or 9000 / RATE)
    with pytest.raises(MediaError, match="no such audio file") as error:
        decoder.read_audio(MediaFile("absent.wav"), 100, RATE)
    assert error.value.reason == "missing"
    assert decoder._process.pid == first  # the same process decoded all files


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_subprocess_has_a_memory_limit(decoder, audio):
    decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    limits = Path(f"/proc/{decoder._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == str(decoder_pool.MEMORY)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_decoding_leaves_no_threads_behind(decoder, video):
    def threads():
        decoder.read_video(MediaFile(str(video)), 8, 8.0, 32)
        return len(os.listdir(f"/proc/{decoder._process.pid}/task"))

    assert {threads() for _ in range(10)} == {1}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_process_that_holds_much_memory_is_replaced(decoder, audio, monkeypatch):
    def process_of_a_file():
        decoder.read_audio(MediaFile(str(audio)), 100, RATE)
        return decoder._process.pid

    first = process_of_a_file()
    assert process_of_a_file() == first
    monkeypatch.setattr(decoder_pool, "MEMORY", 4096)
    assert process_of_a_file() != first and ended(first)


def test_a_hang_fails_one_file_and_the_next_is_decoded(decoder, audio):
    want = decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    stopped = decoder._process
    os.kill(stopped.pid, signal.SIGSTOP)
    decoder._timeout_s = 0.5
    with pytest.raises(MediaError, match=r"x\.wav: not decoded within 0\.5 seconds") as error:
        decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    assert error.value.reason == "hang" and stopped.poll() is not None
    decoder._timeout_s = 60.0
    np.testing.assert_array_equal(decoder.read_audio(MediaFile(str(audio)), 100, RATE), want)


def test_a_hang_with_a_file_larger_than_the_pipe_buffer(decoder, audio):
    decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    os.kill(decoder._process.pid, signal.SIGSTOP)
    decoder._timeout_s = 0.5
    with pytest.raises(MediaError, match="not decoded within"):
        decoder.read_audio(MediaFile("large", bytes(1 << 22)), 100, RATE)


def test_a_crash_fails_one_file_and_the_next_is_decoded(decoder, audio):
    want = decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    os.kill(decoder._process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (decoder._process.pid, signal.SIGKILL)).start()
    with pytest.raises(MediaError, match="the decoder crashed") as error:
        decoder.read_audio(MediaFile(str(audio)), 100, RATE)
    assert error.value.reason == "crash"
    np.testing.assert_array_equal(decoder.read_audio(MediaFile(str(audio)), 100, RATE), want)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"garbage" * 100,
        b"\0" * 16,
        b"\xff" * 16,
        decoder_pool._LENGTHS.pack(2, 0) + b"{}",
        decoder_pool._LENGTHS.pack(2, 400) + b"[]",
    ],
)
def test_a_malformed_response_is_a_crash(monkeypatch, decoder, response):
    code = f"import sys; sys.stdout.buffer.write({response!r})"
    monkeypatch.setattr(
        decoder_pool,
        "_start_process",
        lambda: subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    )
    with pytest.raises(MediaError) as error:
        decoder.read_audio(MediaFile("x", b"y"), 100, RATE)
    assert error.value.reason == "crash"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_subprocess_ends_with_its_parent(audio):
    code = (
        "import os, sys\nfrom codi_jax.data.decoder_pool import SubprocessDecoder\n"
        "from codi_jax.media.files import MediaFile\n"
        f"a = SubprocessDecoder(60.0)\na.read_audio(MediaFile({str(audio)!r}), 100, 8000)\n"
        "print(a._process.pid, flush=True)\nos._exit(1)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 30
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_wav_is_read_without_a_process(audio, tmp_path):
    pool = DecoderPool(60.0, 1)
    (tmp_path / "cut.wav").write_bytes(audio.read_bytes()[:30])
    np.testing.assert_array_equal(
        pool.read_audio(MediaFile(str(audio)), 3000, RATE), files.read_audio(audio, 3000, RATE)
    )
    assert pool._all[0]._process is None
    with pytest.raises(MediaError) as error:  # FFmpeg says what is wrong
        pool.read_audio(MediaFile(str(tmp_path / "cut.wav")), 3000, RATE)
    assert error.value.reason in ("cut", "damaged") and pool._all[0]._process is not None
    pool.close()


def test_the_pool_starts_processes_as_needed(flac):
    pool, want = DecoderPool(60.0, 3), files.read_audio(MediaFile(str(flac)), 3000, RATE)
    for _ in range(3):  # sequential calls need only one process
        pool.read_audio(MediaFile(str(flac)), 3000, RATE)
    assert len({decoder._process.pid for decoder in pool._all if decoder._process}) == 1
    with ThreadPoolExecutor(6) as threads:
        got = list(threads.map(lambda _: pool.read_audio(MediaFile(str(flac)), 3000, RATE), range(30)))
    assert all(np.array_equal(x, want) for x in got)
    running = [decoder._process for decoder in pool._all if decoder._process]
    assert 2 <= len(running) <= 3
    pool.close()
    assert all(process.poll() is not None for process in running)


def test_a_decoder_is_thread_safe(decoder, audio):
    want, got = files.read_audio(MediaFile(str(audio)), 3000, RATE), []
    threads = [
        threading.Thread(target=lambda: got.append(decoder.read_audio(MediaFile(str(audio)), 3000, RATE)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and all(np.array_equal(x, want) for x in got)
