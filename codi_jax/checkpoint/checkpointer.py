"""The checkpoints of a run: one directory per step, written in the background while training continues.

`save` copies the arrays to the host and returns; the caller may donate them to the next step immediately. A write that
is interrupted (a kill, a full disk) leaves a directory without an index file, which readers ignore and the next writer
removes. The training loop saves *before* it draws the next batch, so a resumed run continues exactly from there.

A storage that does not respond blocks the save after the one that is in progress. Then a line is printed every `REPORT`
seconds; after `LIMIT` seconds the save has failed. Its thread cannot be ended, so the process then ends with its main
thread, without waiting for it.
"""

import concurrent.futures
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from codi_jax.checkpoint import index, store
from codi_jax.checkpoint.index import CheckpointError, SaveError
from codi_jax.config import first_line
from codi_jax.exit_codes import EXIT_UNAVAILABLE
from codi_jax.progress import duration
from codi_jax.types import PyTree

REPORT = 60.0  # seconds
LIMIT = 1800.0  # seconds


def _end_with_main_thread() -> None:
    """Ends the process with `EXIT_UNAVAILABLE` when its main thread ends, even if other threads still run."""

    def end() -> None:
        threading.main_thread().join()
        sys.stdout.flush()
        os._exit(EXIT_UNAVAILABLE)

    threading.Thread(target=end, daemon=True).start()


class Checkpointer:
    """Saves and restores trees by step. Use it as a context manager, or call `close`.

    Every process of a run creates one and calls the same methods in the same order.
    """

    def __init__(self, directory: str, keep_last: int = 2, keep_every: int | None = None):
        """
        Args:
          directory: a local path, `gs://…` or `s3://…`; created by the first save.
          keep_last: how many of the newest checkpoints are kept.
          keep_every: checkpoints whose step it divides are kept as well; None or 0 for none.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last={keep_last}: it must be at least 1")
        self._directory = store.absolute(directory)
        self._keep_last, self._keep_every = keep_last, keep_every
        self._cleaned = self._stalled = False
        self._janitor = concurrent.futures.ThreadPoolExecutor(1, "checkpoint-janitor")
        self._deletion = self._janitor.submit(self._delete_old, [])
        self._writer = store.writer(self._directory)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _path(self, step: int) -> epath.Path:
        return self._directory / f"{step:08d}"

    def steps(self) -> list[int]:
        """The steps with a complete checkpoint, ascending."""
        if not self._directory.exists():
            return []
        complete = [p for p in self._directory.iterdir() if p.name.isdigit() and (p / index.NAME).exists()]
        return sorted(int(p.name) for p in complete)

    def latest(self) -> int | None:
        """The newest step with a complete checkpoint; None if there is none."""
        return max(self.steps(), default=None)

    def save(self, step: int, tree: PyTree, meta: dict[str, Any] | None = None) -> None:
        """Starts to save a tree of arrays and a JSON-able dict; first waits for the previous save.

        Raises:
          CheckpointError: `step` has already been saved, a leaf is not an array, or the previous save failed.
        """
        self.wait()
        args = store.save_args(tree, meta or {})
        if (self._path(step) / index.NAME).exists():
            raise CheckpointError(f"step {step} has already been saved in {self._directory}")
        if jax.process_index() == 0:
            self._remove_incomplete()
            self._deletion = self._janitor.submit(self._delete_old, self.steps())
        self._guard(lambda: self._writer.save(self._path(step), args=args))

    def wait(self) -> None:
        """Waits until the last save is complete on disk.

        Raises:
          SaveError: it failed, or the storage does not respond.
        """
        self._guard(self._wait_for_storage)

    def restore(self, target: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any]]:
        """The tree and meta of a step, the newest by default, restored into the shardings of `target`.

        Args:
          target: a tree of ShapeDtypeStructs (with shardings) or of arrays.
          step: the step to restore.

        Raises:
          CheckpointError: there is no checkpoint, it is damaged, or a leaf differs from the target in path, shape or
            dtype.
        """
        self.wait()
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(f"no checkpoint in {self._directory}")
        return store.restore(self._path(step), target)

    def close(self) -> None:
        """Waits for the last save, deletes old checkpoints and ends the background threads."""
        if self._stalled:  # they cannot be ended
            return
        try:
            self.wait()
            if self._cleaned:  # this process wrote
                self._delete_old(self.steps())
        finally:
            self._writer.close()
            self._janitor.shutdown()

    def _wait_for_storage(self) -> None:
        """Waits for the last save and the last deletion, at most `LIMIT` seconds."""
        if self._stalled:
            raise TimeoutError("the storage does not respond")
        errors: list[Exception] = []

        def wait() -> None:
            try:
                self._writer.wait_until_finished()
                self._deletion.result()
            except Exception as error:
                errors.append(error)

        waiting, start = threading.Thread(target=wait, daemon=True), time.monotonic()
        waiting.start()
        waiting.join(REPORT)
        while waiting.is_alive():
            spent = time.monotonic() - start
            if spent >= LIMIT:
                self._stalled = True
                _end_with_main_thread()
                raise TimeoutError(
                    f"the storage has not responded for {duration(spent)}; run the same command again to resume from "
                    "the last complete checkpoint"
                )
            line = f"{self._directory}: waiting for the storage to write a checkpoint, {duration(spent)} so far"
            print(f"codi-jax: {line}", file=sys.stderr, flush=True)
            waiting.join(REPORT)
        if errors:
            raise errors[0]

    def _remove_incomplete(self) -> None:
        """Removes, before the first save, what an interrupted writer left."""
        if self._cleaned:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.iterdir() if self._directory.exists() else ():  # a store has no empty directories
            if path.name.split(".")[0].isdigit() and not (path / index.NAME).exists():
                path.rmtree()
        self._cleaned = True

    def _delete_old(self, complete: list[int]) -> None:
        """Deletes all but the `keep_last` newest of `complete`, which does not include the one being written.

        So there is one more during a run: otherwise, with keep_last=1, a kill during a write would leave none.
        """
        for step in complete[: len(complete) - self._keep_last]:
            if not self._keep_every or step % self._keep_every:
                store.discard(self._path(step))

    def _guard(self, call: Callable[[], None]) -> None:
        """Calls `call` and raises its errors as SaveError."""
        try:
            call()
        except (OSError, ValueError, RuntimeError) as error:
            said = first_line(error)
            raise SaveError(f"cannot save in {self._directory}: {said}") from error
