"""Sounds and clips decoded in a process of their own, which can be killed: a crash or a hang is charged to its file.

A decoder of foreign files is the part of a run that is most easily broken. Here it gets a bounded time and a bounded
memory, and if it is gone, the next file is given to a fresh one. Nothing is unpickled on either side:

    request    JSON {"read", "name", "start", "duration", "has", "arguments"}, then the file's bytes where it has any
    answer     JSON {"reason", "said"} of a refusal, or {} and the bytes of the one array that was asked for

each as the lengths of both (two little-endian 64-bit numbers), then the JSON, then the bytes.
"""

import contextlib
import json
import math
import os
import queue
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from codi_jax.data import files
from codi_jax.data.files import MediaError, MediaFile

MEMORY = 4 << 30  # bytes of address space that a decoder may have
_LENGTHS = struct.Struct("<QQ")


class SubprocessDecoder:
    """Reads as `files` does, in another process; for several threads, one file at a time.

    Args:
      timeout_s: seconds that a file may take.
    """

    def __init__(self, timeout_s: float):
        self._timeout_s, self._lock = timeout_s, threading.Lock()
        self._process: subprocess.Popen | None = None

    def read_video(self, medium: MediaFile, frames: int, rate: float, size: int) -> np.ndarray:
        """See `files.read_video`; raises MediaError `crash` or `hang` as well."""
        return self._call("read_video", medium, (frames, rate, size), np.uint8, (frames, size, size, 3))

    def read_audio(self, medium: MediaFile, samples: int, rate: int) -> np.ndarray:
        """See `files.read_audio`; raises MediaError `crash` or `hang` as well."""
        return self._call("read_audio", medium, (samples, rate), np.float32, (samples,))

    def close(self) -> None:
        """Ends the process; the next file starts another."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                pipe.close()
            self._process.wait()
            self._process = None

    def __del__(self):
        self.close()

    def _call(self, read: str, medium: MediaFile, arguments: tuple, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        about = {"read": read, "name": medium.name, "start": medium.start, "duration": medium.duration}
        about |= {"has": medium.data is not None, "arguments": arguments}
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._process = _start_process()
            try:
                answer, data = self._exchange(about, medium.data or b"", math.prod(shape) * np.dtype(dtype).itemsize)
            except TimeoutError:
                self.close()
                raise MediaError("hang", f"{medium.name}: not decoded within {self._timeout_s:g} seconds") from None
            except (OSError, EOFError, ValueError) as error:
                self.close()
                raise MediaError("crash", f"{medium.name}: the decoder broke down ({type(error).__name__})") from None
        if "said" in answer:
            raise MediaError(str(answer["reason"]), str(answer["said"]))
        return np.frombuffer(data, dtype).reshape(shape).copy()

    def _exchange(self, about: dict, data: bytes, expected: int) -> tuple[dict, bytes]:
        deadline = time.monotonic() + self._timeout_s
        text = json.dumps(about).encode()
        sending = threading.Thread(target=_send, args=(self._process.stdin, text, data), daemon=True)
        sending.start()  # a decoder that does not read must not hold up the one who waits for it
        try:
            lengths = _LENGTHS.unpack(self._receive(_LENGTHS.size, deadline))
            if lengths[0] > 1 << 16 or lengths[1] not in (0, expected):
                raise ValueError("not an answer")
            answer = json.loads(self._receive(lengths[0], deadline))
            if not isinstance(answer, dict) or ("said" in answer) == bool(lengths[1]):
                raise ValueError("not an answer")
            return answer, self._receive(lengths[1], deadline)
        finally:
            if not sending.is_alive():
                sending.join()

    def _receive(self, count: int, deadline: float) -> bytes:
        out, pipe = bytearray(), self._process.stdout.fileno()
        while len(out) < count:
            ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            part = os.read(pipe, count - len(out))
            if not part:
                raise EOFError
            out += part
        return bytes(out)


class DecoderPool:
    """So many of them, for as many threads: each takes one that is free.

    Args:
      timeout_s: seconds that a file may take.
      count: processes, at most; each is started when it is first needed.
    """

    def __init__(self, timeout_s: float, count: int):
        self._free: queue.LifoQueue[SubprocessDecoder] = queue.LifoQueue()  # the last one used is running
        self._all = [SubprocessDecoder(timeout_s) for _ in range(count)]
        for reader in self._all:
            self._free.put(reader)

    def read_video(self, *arguments: Any) -> np.ndarray:
        """See `SubprocessDecoder.read_video`."""
        with self._one() as reader:
            return reader.read_video(*arguments)

    def read_audio(self, *arguments: Any) -> np.ndarray:
        """See `SubprocessDecoder.read_audio`."""
        with self._one() as reader:
            return reader.read_audio(*arguments)

    def close(self) -> None:
        """Ends the processes; the next file starts another."""
        for reader in self._all:
            reader.close()

    @contextlib.contextmanager
    def _one(self) -> Iterator[SubprocessDecoder]:
        reader = self._free.get()
        try:
            yield reader
        finally:
            self._free.put(reader)


def _send(pipe: BinaryIO, text: bytes, data: bytes) -> None:
    try:
        pipe.write(_LENGTHS.pack(len(text), len(data)) + text)
        pipe.write(data)
        pipe.flush()
    except (OSError, ValueError):  # it has been killed
        pass


def _start_process() -> subprocess.Popen:
    command = [sys.executable, "-m", "codi_jax.data.decoder_pool"]
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:  # whoever asked is gone
        sys.exit(0)
    return data


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """The process: one request after another, until there are no more."""
    while True:
        lengths = _LENGTHS.unpack(_exactly(requests, _LENGTHS.size))
        about, data = json.loads(_exactly(requests, lengths[0])), _exactly(requests, lengths[1])
        try:
            medium = MediaFile(about["name"], data if about["has"] else None, about["start"], about["duration"])
            read = {"read_video": files.read_video, "read_audio": files.read_audio}[about["read"]]
            answer, out = {}, np.ascontiguousarray(read(medium, *about["arguments"])).tobytes()
        except MediaError as error:
            answer, out = {"reason": error.reason, "said": str(error)[:10_000]}, b""
        except MemoryError:
            answer, out = {"reason": "large", "said": f"{about['name']}: takes more memory than there may be"}, b""
        text = json.dumps(answer).encode()
        answers.write(_LENGTHS.pack(len(text), len(out)) + text + out)
        answers.flush()


def _main() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
