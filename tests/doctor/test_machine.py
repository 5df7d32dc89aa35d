"""What `codi-jax doctor` reads from the system, from a small tree in place of `/`."""

import os

import pytest

from codi_jax.doctor import machine

HOST = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"
GIB = 2**30


def tree(root, **files):
    for name, text in {"proc/meminfo": HOST, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_memory_of_the_host(tmp_path):
    assert machine.host_memory(tree(tmp_path)) == (16 * GIB, 8 * GIB)
    assert machine.host_memory(tmp_path / "nowhere") == (None, None)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
            },
            2 * GIB,
        ),
        ({"proc/self/cgroup": "0::/of/the/host\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"}, GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{32 * GIB}\n"}, None),
        (
            {"proc/self/cgroup": "3:cpu:/x\n4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": f"{GIB}\n"},
            GIB,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
    ],
)
def test_limit_of_the_control_group(tmp_path, files, limit):
    assert machine.memory_limit(tree(tmp_path, **files)) == limit


def test_nvidia_driver(tmp_path):
    assert machine.nvidia_driver(tmp_path) is None
    assert machine.nvidia_driver(tree(tmp_path, **{"dev/nvidia0": ""})) == "unknown"
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root@host)\n"
    assert machine.nvidia_driver(tree(tmp_path, **{"proc/driver/nvidia/version": line})) == "580.65.06"


def test_tpu_chips(tmp_path):
    devices = "sys/bus/pci/devices"
    network = {f"{devices}/0/vendor": "0x1ae0\n", f"{devices}/0/device": "0x0042\n", "dev/accel/accel0": ""}
    assert machine.tpu_chips(tree(tmp_path, **network)) == 0  # gVNIC, and the accelerator of another vendor
    assert machine.tpu_chips(tree(tmp_path, **{"dev/accel0": "", "dev/accel1": ""})) == 2
    chips = {f"{devices}/{i}/{name}": x for i in (1, 2, 3) for name, x in (("vendor", "0x1ae0"), ("device", "0x006f"))}
    assert machine.tpu_chips(tree(tmp_path, **chips)) == 3


def test_variables_that_matter_without_secrets():
    given = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_x",
        "TPU_WORKER_ID": "0",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "hf_private",
        "CODI_API_KEY": "private",
        "JAX_COMPILATION_CACHE_DIR": "s3://user:private@host/x",
        "AWS_SECRET_ACCESS_KEY": "private",
        "HOME": "/home/me",
    }
    assert machine.shown_environment(given) == {
        "CODI_API_KEY": "(set)",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "(set)",
        "JAX_COMPILATION_CACHE_DIR": "s3://…@host/x",
        "JAX_PLATFORMS": "cpu",
        "TPU_WORKER_ID": "0",
        "XLA_FLAGS": "--xla_x",
    }


def test_folders(tmp_path, monkeypatch):
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled" / "program").write_bytes(bytes(100))
    found = machine.cache_folder({"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")})
    assert found.writable and found.size == 100 and found.free
    absent = machine.folder(str(tmp_path / "a" / "b"), measure=True)
    assert absent.writable and absent.size is None and not (tmp_path / "a").exists()
    assert not machine.folder(str(tmp_path / "compiled" / "program" / "x")).writable  # below a file
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not machine.folder(str(tmp_path)).writable


def test_a_folder_in_a_store_and_none_at_all(monkeypatch):
    remote = machine.folder("gs://bucket/compiled", measure=True)
    assert remote.writable and remote.free is None
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert machine.temporary_folder() == machine.folder(None)
    assert machine.folder(None).path is None and not machine.folder(None).writable


@pytest.mark.parametrize(
    ("name", "encoding"), [("UTF-8", "utf-8"), ("utf8", "utf-8"), ("ANSI_X3.4-1968", "ansi-x3.4-1968")]
)
def test_encoding(monkeypatch, name, encoding):
    monkeypatch.setattr(machine.locale, "getpreferredencoding", lambda do_setlocale: name)
    assert machine.text_encoding() == encoding
