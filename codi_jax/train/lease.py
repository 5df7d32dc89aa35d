"""The lease of a workdir: at most one run writes to it.

    workdir/lease.json    the process that holds the lease, and when it renewed the lease last

Process 0 of a run holds it and renews it every `RENEW` seconds; the other processes and the workers of `--jobs` write
under it. It is deleted when the run ends. A lease that was left by a killed process is taken over:

    same host       at once, if the process no longer exists (of the same boot and pid namespace, so that the process
                    ids of two containers are not confused)
    another host    if it is not renewed for `STALE` seconds. The new process watches the lease for the rest of this
                    time and, since clocks differ, for one renewal at least

On a disk a file lock of the directory makes reading and writing the lease one step. In an object store, and where there
are no file locks, the last writer holds the lease: everyone reads it again after `SETTLE` seconds. A process that finds
its lease in other hands, such as one that was suspended for longer than `STALE`, exits at once without writing.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from codi_jax import storage
from codi_jax.config import ConfigError
from codi_jax.exit_codes import EXIT_BAD_INPUT
from codi_jax.parallel import distributed
from codi_jax.progress import calling_every, duration

NAME = "lease.json"
STALE = 60.0  # seconds without renewal after which another host may take the lease over
RENEW = 10.0  # seconds between renewals
SETTLE = 2.0  # seconds after which the last of several simultaneous writers is known


@dataclasses.dataclass(frozen=True)
class Holder:
    """The contents of lease.json.

    Attributes:
      token: differs for every run.
      host: name of the host.
      space: its boot and pid namespace, in which `pid` identifies a process; empty if unknown.
      pid, birth: the process, and when it began (in units of the system), since ids are used again.
      since, renewed: seconds since 1970.
    """

    token: str
    host: str
    space: str
    pid: int
    birth: str
    since: float
    renewed: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        renewed = duration(max(time.time() - self.renewed, 0.0))
        return f"process {self.pid} on {self.host} (since {since}, last renewed {renewed} ago)"


def _parse(text: str) -> Holder | None:
    """The holder that a lease names; None if the text is damaged."""
    try:
        given = json.loads(text)
        token, host, space, birth = (str(given[name]) for name in ("token", "host", "space", "birth"))
        holder = Holder(token, host, space, int(given["pid"]), birth, float(given["since"]), float(given["renewed"]))
        str(holder)  # times out of range
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None
    return holder


def _pid_space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""


def _birth(pid: int) -> str:
    """When a process began, in ticks since the boot; "gone" if it has ended, empty if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "gone" if Path("/proc/self/stat").exists() else ""
    return "gone" if fields[0] in "ZX" else fields[19]


def _runs(holder: Holder) -> bool:
    """Whether the process of a holder on this host still exists."""
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a process of another user
        pass
    return _birth(holder.pid) == holder.birth


class Lease:
    """The lease of one workdir, for one run."""

    def __init__(self, workdir: Path):
        """`workdir` is created by `acquire` if absent."""
        self._directory = storage.as_path(workdir)
        self._path = self._directory / NAME
        now, pid = time.time(), os.getpid()
        self._own = Holder(uuid.uuid4().hex, socket.gethostname(), _pid_space(), pid, _birth(pid), now, now)

    def acquire(self) -> None:
        """Takes the lease, if necessary after waiting until it is known whether its holder is alive.

        Raises:
          ConfigError: another run holds it.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        seen = self._read()
        if seen is not None:
            seen = self._wait_for_end(seen)
        with self._locked() as locked:
            if self._read() != seen:
                raise self._refused()
            self._write(locked)
        if not locked:
            time.sleep(SETTLE)
            if not self._is_mine(self._read()):
                raise self._refused()

    def renew(self) -> None:
        """Renews the lease; exits the process if another run has taken it over.

        If the lease cannot be read or written, such as on a full disk, the next renewal tries again.
        """
        with contextlib.suppress(Exception), self._locked() as locked:
            if (text := self._read()) is None or self._is_mine(text):
                self._write(locked)
                return
            self._say(f"{_parse(text) or 'another run'} has taken the lease over; stopped")
            os._exit(EXIT_BAD_INPUT)  # starting again would be refused

    def release(self) -> None:
        """Deletes the lease."""
        with contextlib.suppress(Exception), self._locked():
            if self._is_mine(self._read()):
                self._path.unlink()

    def _wait_for_end(self, seen: str) -> str | None:
        """Returns once the lease `seen` may be replaced: itself, or None if it has been deleted meanwhile.

        Raises:
          ConfigError: its holder is alive.
        """
        holder = _parse(seen)
        if holder is not None and (holder.host, holder.space) == (self._own.host, self._own.space):
            if _runs(holder):
                raise self._refused()
            self._say(f"taking over the lease of {holder}: this process has ended")
            return seen
        age = 0.0 if holder is None else time.time() - holder.renewed
        wait = min(max(STALE - age, 1.5 * RENEW), STALE)
        who = holder or "an unreadable lease"
        self._say(f"the lease is that of {who}; waiting {duration(wait)} whether it is renewed")
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if (text := self._read()) is None:
                return None
            if text != seen:
                raise self._refused()
        self._say(f"taking over the lease of {who}")
        return seen

    def _refused(self) -> ConfigError:
        holder = _parse(self._read() or "")
        advice = "wait until it ends, end it, or choose another --workdir"
        return ConfigError(
            f"{self._directory} is in use by {holder or 'a run that is starting'}: {advice}; when it is gone, the same "
            f"command takes over: at once on the same host, on another {STALE:g} seconds after the last renewal"
        )

    def _say(self, what: str) -> None:
        print(f"codi-jax: {self._directory}: {what}", file=sys.stderr, flush=True)

    def _is_mine(self, text: str | None) -> bool:
        holder = _parse(text or "")
        return holder is not None and holder.token == self._own.token

    def _read(self) -> str | None:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return None

    def _write(self, locked: bool) -> None:
        content = dataclasses.asdict(self._own) | {"renewed": time.time()}
        storage.write_text(self._path, json.dumps(content, indent=1) + "\n", shared=not locked)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Locks the directory against other processes; yields whether that is possible."""
        if storage.is_remote(self._directory):
            yield False
            return
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                locked = True
            except OSError:  # such as on NFS
                locked = False
            yield locked
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Holds the lease of a workdir during the block. A collective: every process of a run must enter it.

    Raises:
      ConfigError: another run holds it; on the other processes, process 0 could not take it.
    """
    lease = Lease(workdir)
    distributed.run_on_primary(lease.acquire, f"take the lease of {workdir}")
    if not distributed.is_primary():
        yield
        return
    try:
        with calling_every(RENEW, lease.renew):
            yield
    finally:
        lease.release()
