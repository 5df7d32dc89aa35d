"""The checkpoints of a run: one directory a step, written in the background while training goes on.

`save` copies the arrays to the host and returns; the caller may donate them to the next step at once. A write that is
cut short (a kill, a full disk) leaves a directory without a record, which no reader counts and the next writer clears
away. So the loop saves *before* it draws the next batch, and a resumed run stands exactly where the saved one did.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from codi_jax.checkpoint import index, store
from codi_jax.checkpoint.index import CheckpointError


class Checkpointer:
    """Saves and restores trees by step. Use as a context manager, or `close` it.

    Every process of a run makes one and calls the same methods in the same order.
    """

    def __init__(self, directory: str, keep_last: int = 2, keep_every: int | None = None):
        """Args:
        directory: a path of this machine, `gs://…` or `s3://…`; created by the first save.
        keep_last: how many of the newest checkpoints stay.
        keep_every: checkpoints of steps divisible by it stay as well; None or 0 for none.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last={keep_last}: a run needs at least its newest checkpoint")
        self._directory = store.absolute(directory)
        self._keep_last, self._keep_every = keep_last, keep_every
        self._cleared = False
        self._janitor = concurrent.futures.ThreadPoolExecutor(1, "checkpoint-janitor")
        self._dropping = self._janitor.submit(self._drop_old, [])
        self._writer = store.writer(self._directory)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _path(self, step: int) -> epath.Path:
        return self._directory / f"{step:08d}"

    def steps(self) -> list[int]:
        """The steps of which a whole checkpoint exists, ascending."""
        if not self._directory.exists():
            return []
        found = [p for p in self._directory.iterdir() if p.name.isdigit() and (p / index.NAME).exists()]
        return sorted(int(p.name) for p in found)

    def latest(self) -> int | None:
        """The newest step of which a whole checkpoint exists."""
        return max(self.steps(), default=None)

    def save(self, step: int, tree: Any, meta: dict[str, Any] | None = None) -> None:
        """Starts to save a tree of arrays and a JSON-able dict; waits for the save before it, if that still runs.

        Raises:
          CheckpointError: `step` has been saved, the tree is not of arrays, or the save before this one failed.
        """
        self.wait()
        args = store.save_args(tree, meta or {})
        if (self._path(step) / index.NAME).exists():
            raise CheckpointError(f"step {step} has been saved in {self._directory} already")
        if jax.process_index() == 0:
            self._clear_remains()
            self._dropping = self._janitor.submit(self._drop_old, self.steps())
        self._guard(lambda: self._writer.save(self._path(step), args=args))

    def wait(self) -> None:
        """Returns when the last save is whole on disk.

        Raises:
          CheckpointError: it failed.
        """
        self._guard(self._writer.wait_until_finished)
        self._guard(self._dropping.result)

    def restore(self, target: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The tree and meta of a step, the newest by default, restored into the shardings of `target`.

        Args:
          target: a tree of ShapeDtypeStructs (with shardings) or of arrays.
          step: which.

        Raises:
          CheckpointError: no checkpoint, a damaged one, or one whose leaves differ from the target's in any way.
        """
        self.wait()
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(f"no checkpoint in {self._directory}")
        return store.restore(self._path(step), target)

    def close(self) -> None:
        """Waits for the last save, drops what need not be kept, and ends the background threads."""
        try:
            self.wait()
            if self._cleared:  # this process wrote
                self._drop_old(self.steps())
        finally:
            self._writer.close()
            self._janitor.shutdown()

    def _clear_remains(self) -> None:
        """Removes, before the first save, what an interrupted writer left behind."""
        if self._cleared:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.iterdir() if self._directory.exists() else ():  # a store keeps no empty directory
            if path.name.split(".")[0].isdigit() and not (path / index.NAME).exists():
                path.rmtree()
        self._cleared = True

    def _drop_old(self, whole: list[int]) -> None:
        """Removes all but the `keep_last` newest of `whole`, which does not count the one being written.

        So while a run lasts there may be one more: were there fewer, a kill could leave none.
        """
        for step in whole[: len(whole) - self._keep_last]:
            if not self._keep_every or step % self._keep_every:
                store.discard(self._path(step))

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"cannot save in {self._directory}: {str(error).splitlines()[0]}") from error
