"""Decoding in a process that can be killed: the same numbers, and what happens when it breaks or hangs."""

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

from codi_jax.data import decoder_pool, files
from codi_jax.data.decoder_pool import DecoderPool, SubprocessDecoder
from codi_jax.data.files import MediaError, MediaFile

RATE = 8000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "x.mp4"
    files.write_video(path, np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8), 8.0)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "x.wav"
    files.write_wav(path, np.arange(9000, dtype=np.int16), RATE)
    return path


@pytest.fixture
def reader():
    reader = SubprocessDecoder(timeout_s=60.0)
    yield reader
    reader.close()


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return True


def test_it_reads_what_is_read_here(reader, clip, sound):
    for medium in (MediaFile(str(clip), start=0.25), MediaFile("in memory", clip.read_bytes())):
        np.testing.assert_array_equal(reader.read_video(medium, 6, 8.0, 16), files.read_video(medium, 6, 8.0, 16))
    first = reader._process.pid
    for medium in (MediaFile(str(sound), duration=0.5), MediaFile("in memory", sound.read_bytes())):
        np.testing.assert_array_equal(reader.read_audio(medium, 5000, RATE), files.read_audio(medium, 5000, RATE))
    with pytest.raises(MediaError, match="no such sound file") as error:
        reader.read_audio(MediaFile("absent.wav"), 100, RATE)
    assert error.value.reason == "missing"
    assert reader._process.pid == first  # one process for all of them


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_its_memory_is_bounded(reader, sound):
    reader.read_audio(MediaFile(str(sound)), 100, RATE)
    limits = Path(f"/proc/{reader._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == str(decoder_pool.MEMORY)


def test_a_hang_is_one_of_its_file_and_the_next_one_is_read(reader, sound):
    want = reader.read_audio(MediaFile(str(sound)), 100, RATE)
    stopped = reader._process
    os.kill(stopped.pid, signal.SIGSTOP)
    reader._timeout_s = 0.5
    with pytest.raises(MediaError, match=r"x\.wav: not decoded within 0\.5 seconds") as error:
        reader.read_audio(MediaFile(str(sound)), 100, RATE)
    assert error.value.reason == "hang" and stopped.poll() is not None
    reader._timeout_s = 60.0
    np.testing.assert_array_equal(reader.read_audio(MediaFile(str(sound)), 100, RATE), want)


def test_a_hang_with_a_file_that_no_pipe_holds(reader, sound):
    reader.read_audio(MediaFile(str(sound)), 100, RATE)
    os.kill(reader._process.pid, signal.SIGSTOP)
    reader._timeout_s = 0.5
    with pytest.raises(MediaError, match="not decoded within"):
        reader.read_audio(MediaFile("large", bytes(1 << 22)), 100, RATE)


def test_a_crash_is_one_of_its_file_and_the_next_one_is_read(reader, sound):
    want = reader.read_audio(MediaFile(str(sound)), 100, RATE)
    os.kill(reader._process.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (reader._process.pid, signal.SIGKILL)).start()
    with pytest.raises(MediaError, match="the decoder broke down") as error:
        reader.read_audio(MediaFile(str(sound)), 100, RATE)
    assert error.value.reason == "crash"
    np.testing.assert_array_equal(reader.read_audio(MediaFile(str(sound)), 100, RATE), want)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garbage" * 100,
        b"\0" * 16,
        b"\xff" * 16,
        decoder_pool._LENGTHS.pack(2, 0) + b"{}",
        decoder_pool._LENGTHS.pack(2, 400) + b"[]",
    ],
)
def test_what_is_no_answer(monkeypatch, reader, said):
    code = f"import sys; sys.stdout.buffer.write({said!r})"
    monkeypatch.setattr(
        decoder_pool,
        "_start_process",
        lambda: subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    )
    with pytest.raises(MediaError) as error:
        reader.read_audio(MediaFile("x", b"y"), 100, RATE)
    assert error.value.reason == "crash"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_it_ends_with_whoever_started_it(sound):
    code = (
        "import os, sys\nfrom codi_jax.data.decoder_pool import SubprocessDecoder\n"
        "from codi_jax.data.files import MediaFile\n"
        f"a = SubprocessDecoder(60.0)\na.read_audio(MediaFile({str(sound)!r}), 100, 8000)\n"
        "print(a._process.pid, flush=True)\nos._exit(1)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 30
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_several_at_a_time_are_several_processes(sound):
    decoders, want = DecoderPool(60.0, 3), files.read_audio(MediaFile(str(sound)), 3000, RATE)
    for _ in range(3):  # one after the other: one process does
        decoders.read_audio(MediaFile(str(sound)), 3000, RATE)
    assert len({reader._process.pid for reader in decoders._all if reader._process}) == 1
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda _: decoders.read_audio(MediaFile(str(sound)), 3000, RATE), range(30)))
    assert all(np.array_equal(x, want) for x in got)
    running = [reader._process for reader in decoders._all if reader._process]
    assert 2 <= len(running) <= 3
    decoders.close()
    assert all(process.poll() is not None for process in running)


def test_several_threads(reader, sound):
    want, got = files.read_audio(MediaFile(str(sound)), 3000, RATE), []
    threads = [
        threading.Thread(target=lambda: got.append(reader.read_audio(MediaFile(str(sound)), 3000, RATE)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and all(np.array_equal(x, want) for x in got)
