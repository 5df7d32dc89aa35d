"""Decodes media files in subprocesses, so that a crash or a hang costs one file and not the run.

Each subprocess has a time limit per file and a memory limit. If it dies, the next file starts a new one. Nothing is
unpickled on either side:

    request    JSON {"read", "name", "start", "duration", "has_data", "arguments"}, then the file's bytes, if in memory
    response   JSON {"reason", "message"} for an error, or {} and the bytes of the decoded array

Each message is the lengths of both parts (two little-endian 64-bit integers), then the JSON, then the bytes.
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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from codi_jax.media import files, squares
from codi_jax.media.files import MediaError, MediaFile

MEMORY = 4 << 30  # limit of a decoder process's address space, in bytes
_LENGTHS = struct.Struct("<QQ")
# glibc keeps freed memory instead of asking the system for new pages for every array, which takes a fifth of the time.
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
_READERS = {"read_video": files.read_video, "read_audio": files.read_audio, "seconds": files.seconds}
_READERS |= {"measure": squares.measure, "read_square": squares.read_square, "read_opacity": squares.read_opacity}
_PIPE = 1 << 20  # bytes in a pipe, so that a file is sent in few parts; the most that Linux gives to any user


class SubprocessDecoder:
    """The functions of `_READERS` in a subprocess. Thread-safe; one file at a time.

    Args:
      timeout_s: time limit per file, in seconds.
    """

    def __init__(self, timeout_s: float):
        self._timeout_s, self._lock = timeout_s, threading.Lock()
        self._process: subprocess.Popen | None = None

    def read_video(self, file: MediaFile, frames: int, rate: float, size: int) -> np.ndarray:
        """See `files.read_video`. Also raises MediaError with reason `crash` or `hang`."""
        return self._call("read_video", file, (frames, rate, size), np.uint8, (frames, size, size, 3))

    def read_audio(self, file: MediaFile, samples: int, rate: int) -> np.ndarray:
        """See `files.read_audio`. Also raises MediaError with reason `crash` or `hang`."""
        return self._call("read_audio", file, (samples, rate), np.float32, (samples,))

    def seconds(self, file: MediaFile) -> float:
        """See `files.seconds`. Also raises MediaError with reason `crash` or `hang`."""
        return float(self._call("seconds", file, (), np.float64, (1,))[0])

    def measure(self, file: MediaFile) -> tuple[float, float, float]:
        """See `squares.measure`. Also raises MediaError with reason `crash` or `hang`."""
        width, height, seconds = map(float, self._call("measure", file, (), np.float64, (3,)))
        return width, height, seconds

    def read_square(self, file: MediaFile, size: int) -> np.ndarray:
        """See `squares.read_square`. Also raises MediaError with reason `crash` or `hang`."""
        return self._call("read_square", file, (size,), np.uint8, (size, size, 3))

    def read_opacity(self, file: MediaFile, size: int) -> np.ndarray:
        """See `squares.read_opacity`. Also raises MediaError with reason `crash` or `hang`."""
        return self._call("read_opacity", file, (size,), np.uint8, (size, size))

    def close(self) -> None:
        """Kills the process. The next file starts a new one."""
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.wait()
            self._process = None

    def __del__(self):
        self.close()

    def _call(
        self, read: str, file: MediaFile, arguments: tuple, dtype: DTypeLike, shape: tuple[int, ...]
    ) -> np.ndarray:
        request = {"read": read, "name": file.name, "start": file.start, "duration": file.duration}
        request |= {"has_data": file.data is not None, "arguments": arguments}
        with self._lock:
            if self._process is None or self._process.poll() is not None or _holds_much(self._process.pid):
                self.close()
                self._process = _start_process()
            try:
                response, data = self._exchange(request, file.data or b"", math.prod(shape) * np.dtype(dtype).itemsize)
            except TimeoutError:
                self.close()
                raise MediaError("hang", f"{file.name}: not decoded within {self._timeout_s:g} seconds") from None
            except (OSError, EOFError, ValueError) as error:
                self.close()
                raise MediaError("crash", f"{file.name}: the decoder crashed ({type(error).__name__})") from None
        if "message" in response:
            raise MediaError(str(response["reason"]), str(response["message"]))
        return np.frombuffer(data, dtype).reshape(shape)

    def _exchange(self, request: dict, data: bytes, expected: int) -> tuple[dict, bytearray]:
        assert self._process is not None
        deadline = time.monotonic() + self._timeout_s
        text = json.dumps(request).encode()
        sending = threading.Thread(target=_send, args=(self._process.stdin, text, data), daemon=True)
        sending.start()  # in a thread, so that a decoder that does not read its input cannot block this one
        try:
            lengths = _LENGTHS.unpack(self._receive(_LENGTHS.size, deadline))
            if lengths[0] > 1 << 16 or lengths[1] not in (0, expected):
                raise ValueError("malformed response")
            response = json.loads(self._receive(lengths[0], deadline))
            if not isinstance(response, dict) or ("message" in response) == bool(lengths[1]):
                raise ValueError("malformed response")
            return response, self._receive(lengths[1], deadline)
        finally:
            if not sending.is_alive():
                sending.join()

    def _receive(self, count: int, deadline: float) -> bytearray:
        assert self._process is not None and self._process.stdout is not None
        out, got, pipe = bytearray(count), 0, self._process.stdout.fileno()
        while got < count:
            ready, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            more = os.readv(pipe, [memoryview(out)[got:]])
            if not more:
                raise EOFError
            got += more
        return out


class DecoderPool:
    """A pool of `SubprocessDecoder`s: every call takes a free one, and waits if there is none.

    Args:
      timeout_s: time limit per file, in seconds.
      count: maximum number of processes; each starts when it is first needed.
    """

    def __init__(self, timeout_s: float, count: int):
        self._free: queue.LifoQueue[SubprocessDecoder] = queue.LifoQueue()  # reuse running processes first
        self._all = [SubprocessDecoder(timeout_s) for _ in range(count)]
        for decoder in self._all:
            self._free.put(decoder)

    def read_video(self, *arguments: Any) -> np.ndarray:
        """See `SubprocessDecoder.read_video`."""
        with self._borrow() as decoder:
            return decoder.read_video(*arguments)

    def read_audio(self, file: MediaFile, samples: int, rate: int) -> np.ndarray:
        """See `SubprocessDecoder.read_audio`. WAV is read in this process: it is not compressed, and sending it to a
        subprocess takes as long as reading it."""
        if (heard := files.read_wav(file, samples, rate)) is not None:
            return heard
        with self._borrow() as decoder:
            return decoder.read_audio(file, samples, rate)

    def seconds(self, file: MediaFile) -> float:
        """See `SubprocessDecoder.seconds`."""
        with self._borrow() as decoder:
            return decoder.seconds(file)

    def close(self) -> None:
        """Kills the processes. The next file starts a new one."""
        for decoder in self._all:
            decoder.close()

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[SubprocessDecoder]:
        """A free decoder, for several calls of one file; waits if there is none."""
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)


def _send(pipe: BinaryIO, text: bytes, data: bytes) -> None:
    try:
        pipe.write(_LENGTHS.pack(len(text), len(data)) + text)
        pipe.write(data)
        pipe.flush()
    except (OSError, ValueError):  # the process was killed
        pass


def _start_process() -> subprocess.Popen:
    command = [sys.executable, "-m", "codi_jax.data.decoder_pool"]
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, **_KEEP_FREED_MEMORY, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    if sys.platform == "linux":
        import fcntl

        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(OSError):  # the user has many pipes
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    return process


def _holds_much(pid: int) -> bool:
    """Whether a process that waits for a file holds a quarter of its memory, so that it may refuse good files."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):  # another system than Linux
        return False
    return pages * os.sysconf("SC_PAGE_SIZE") > MEMORY // 4


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:  # the parent process has exited
        sys.exit(0)
    return data


def _serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """The subprocess: answers requests until its input ends."""
    while True:
        lengths = _LENGTHS.unpack(_read_exactly(requests, _LENGTHS.size))
        request, data = json.loads(_read_exactly(requests, lengths[0])), _read_exactly(requests, lengths[1])
        try:
            file = MediaFile(
                request["name"], data if request["has_data"] else None, request["start"], request["duration"]
            )
            read = _READERS[request["read"]]
            response, out = {}, np.ascontiguousarray(read(file, *request["arguments"])).reshape(-1).view(np.uint8).data
        except MediaError as error:
            response, out = {"reason": error.reason, "message": str(error)[:10_000]}, b""
        except MemoryError:
            message = f"{request['name']}: decoding needs more than {MEMORY >> 30} GiB of memory"
            response, out = {"reason": "large", "message": message}, b""
        text = json.dumps(response).encode()
        responses.write(_LENGTHS.pack(len(text), len(out)) + text)
        responses.write(out)
        responses.flush()


def _main() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep anything else that is printed out of the responses
    _serve(sys.stdin.buffer, responses)


if __name__ == "__main__":
    _main()
