"""The lease of a workdir: refused while its holder is alive, taken over when it is not."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from codi_jax import cli, storage
from codi_jax.cli.common import EXIT_BAD_INPUT
from codi_jax.config import ConfigError
from codi_jax.train import lease
from codi_jax.train.lease import NAME, Lease, hold
from codi_jax.train.recipe import save_config
from tests import s3, toy


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        yield s3.bucket(patch, "leases")


@pytest.fixture(params=["local", "remote"])
def workdir(request, tmp_path, monkeypatch):
    """A local workdir and a remote one."""
    monkeypatch.setattr(lease, "SETTLE", 0.1)
    if request.param == "local":
        return tmp_path / "run"
    return storage.as_path(request.getfixturevalue("bucket")) / request.node.name.split("[")[0]


@pytest.fixture
def short(monkeypatch):
    """A hundredth of the seconds."""
    for name in ("STALE", "RENEW"):
        monkeypatch.setattr(lease, name, getattr(lease, name) / 100)


def leave(workdir, **changes):
    """A lease whose holder has ended without deleting it; `changes` are fields of its contents."""
    left = Lease(workdir)
    left.acquire()
    content = json.loads((workdir / NAME).read_text())
    storage.write_text(workdir / NAME, json.dumps({**content, **changes}))
    left._own = dataclasses.replace(left._own, **changes)
    return left


def ended():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_second_run_is_refused_and_told_who_holds_the_lease(workdir):
    with hold(workdir):
        with pytest.raises(ConfigError) as error, hold(workdir):
            pass
        line = f"{workdir} is in use by process {os.getpid()} on "
        assert str(error.value).startswith(line) and re.search(r"last renewed \ds ago", str(error.value))
        assert "\n" not in str(error.value)
        assert json.loads((workdir / NAME).read_text())["pid"] == os.getpid()
    with hold(workdir):
        pass
    assert not (workdir / NAME).exists()


def test_the_lease_of_a_killed_process_of_this_host_is_taken_over_at_once(workdir, capsys):
    pid = ended()
    leave(workdir, pid=pid)
    with hold(workdir):
        assert json.loads((workdir / NAME).read_text())["pid"] == os.getpid()
    assert f"taking over the lease of process {pid} on " in capsys.readouterr().err


def test_a_process_of_the_same_id_is_not_mistaken_for_the_holder(tmp_path):
    leave(tmp_path, birth="1")  # the id is that of this process, which began later
    with hold(tmp_path):
        pass


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"space": "another container"}])
def test_another_host_waits_until_the_lease_is_stale(tmp_path, short, where):
    now = time.time()
    leave(tmp_path, **where, pid=ended(), renewed=now)
    with hold(tmp_path):
        assert time.time() - now >= 60 / 100


def test_a_clock_that_is_ahead_does_not_make_a_lease_stale(tmp_path, short):
    left = leave(tmp_path, host="elsewhere", renewed=time.time() - 3600)
    timer = threading.Timer(0.1, left.renew)
    timer.start()
    with pytest.raises(ConfigError, match=r"in use by process \d+ on elsewhere"), hold(tmp_path):
        pass
    timer.join()


def test_a_lease_that_is_deleted_while_another_waits_is_free(tmp_path, short):
    left = leave(tmp_path, host="elsewhere")
    threading.Timer(0.1, left.release).start()
    with hold(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"token": 1', json.dumps({"pid": 10**40, "since": 1e300})])
def test_an_unreadable_lease_is_taken_over_when_it_is_stale(tmp_path, short, text):
    (tmp_path / NAME).write_text(text)
    with hold(tmp_path):
        pass


def no_locks(monkeypatch, settle):
    """As on file systems without file locks."""

    def unsupported(*_):
        raise OSError

    monkeypatch.setattr(lease.fcntl, "flock", unsupported)
    monkeypatch.setattr(lease, "SETTLE", settle)


def test_without_locks_no_two_runs_write_to_one_temporary_file(tmp_path, monkeypatch):
    """What one of them is writing the other would rename, and a lease that is damaged nobody holds."""
    no_locks(monkeypatch, 0.0)
    replace, sources = os.replace, []
    monkeypatch.setattr(os, "replace", lambda source, target: (sources.append(source), replace(source, target)))
    for _ in range(2):
        run = Lease(tmp_path)
        run.acquire()
        run.renew()
        run.release()
    assert len(sources) == len(set(sources)) == 4 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("locks", [True, False])
def test_of_simultaneous_starts_one_holds_the_lease(tmp_path, monkeypatch, capsys, locks):
    if not locks:
        no_locks(monkeypatch, 0.5)
    results, barrier = [], threading.Barrier(8)

    def start():
        barrier.wait()
        try:
            Lease(tmp_path).acquire()
            results.append("holds")
        except ConfigError:
            results.append("refused")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["holds"] + ["refused"] * 7
    assert "unreadable" not in capsys.readouterr().err


def test_a_suspended_process_stops_when_its_lease_has_been_taken_over(workdir, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    suspended = leave(workdir, pid=ended())
    with hold(workdir):
        suspended.renew()
        suspended.release()
        assert codes == [EXIT_BAD_INPUT] and "has taken the lease over; stopped" in capsys.readouterr().err
        assert json.loads((workdir / NAME).read_text())["pid"] == os.getpid()


def test_the_lease_is_renewed_and_a_failed_renewal_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEW", 0.05)
    write, failures = storage.write_text, iter([OSError("no space"), None])

    def sometimes(*arguments, **options):
        if error := next(failures, None):
            raise error
        write(*arguments, **options)

    with hold(tmp_path):
        monkeypatch.setattr(storage, "write_text", sometimes)
        first = json.loads((tmp_path / NAME).read_text())["renewed"]
        deadline = time.monotonic() + 20
        while json.loads((tmp_path / NAME).read_text())["renewed"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_train_is_refused_in_one_line(tmp_path, capsys):
    save_config(toy.config(), tmp_path)
    with hold(tmp_path):
        with pytest.raises(SystemExit) as exit:
            cli.main(["train", f"--workdir={tmp_path}"])
        err = capsys.readouterr().err
        assert exit.value.code == EXIT_BAD_INPUT and err.count("\n") == 1 and "is in use by process" in err
