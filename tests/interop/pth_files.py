"""Files of PyTorch for tests, whole and of parts."""

import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np

from codi_jax.interop.tensors import Item

# torch.save (2.13.0) of a state dict with a tied, a transposed, a sliced and an empty tensor, and a parameter.
BY_TORCH = """
eNqdlc9v22QYx984rpu6rNBRumzA+D0ytqV2nKQNrD8wxUzygdYwKdolchO39nDjPvabVSBVioQa4AZnJATiyn3sxI0bBxAHDrtxQJz4F3h/OK
ntJh3MimPZfj/f5/s8fh57y8yLCBUK6NQmoyI6XOrY2C4ffOQb+gK6M2brC+124PtOG3tBN5LfDztO6HQ2vTaWAV21IFdqSkTs0PH2XAxCGwdh
2y23etjzI7kVOjs9z++0sNONgrB1ryJDvlRqThMiIivtPQdEjsiGH9j4A35RhqlmjqxRQGrmybF90INpU8JQ2DaRKZj5AcyYeTM3APkLl7qYxf
CEBeeaJFW049kRzLkkjiu6XEeFJ91pU8DwFOOPYd7MHcN5zj6NYcGCZxiLPacDi+45lhPuhV1yemEo5UouM1GkInlTGMBFM0e9XOJCz2J4zoLn
GdsOCBvC5Sz7wrYpEoiwL/IEXuLsyxheseBVZsK1/V14jZNxcXRWHbU+qs8VllcFXud5leK8rtK83uCS1zBct+AGk+wGXQfKqZposERYhEGhLD
LFAajU2wAqnNcwVC2oMX43dByoT3i4B3Zo7zvYCWVYTrm+RRIZOV5hUavQ4I7fjB2/RR3f5BFXMaxZsP45O9n4DN62QO8dwTvNGUK2SAibdits
svvvNmkTg3EE77F+uueEEWlRuGXmoijaKW+Z04WHt+fQAwGxfWviIMyjAhmE8m4Q7tu4FesYusjmQaU69/95+Cl1T/fJOgtolerEjd2yfW+vu+
90saE3xo7Wf9rqVWpg/RD+Jjkg4UwDs2iKGNj5GDsBHVNDz6E7voex71CN49U/L9LWlM7UKCAxfissKYY+vNpfJ38b5Ef2Ptm/3aCKF77866si
uVF8hGJlqKgaevl/loIIkNj9n2g89+e5KwWmeHY8fRivYuhrj1/6OH5/nca+e/e7H+gkiKPYaGxsaRhbM3SBxD7L56Xh2qqhL6KJ+d+k8b/+/t
pcOv44zRnWAaMWJs9fkyn96zd7tx/dP0W0QhuYWYqc0CMd/IlN3/str2Po1ceqpKLUampDUVdqWkXRag1leWWZXKpqSr1e1RpKXdG05YrKxmzt
/i+bJeKjxFzmBFal2GdylOVTzk++Y1kuObrz6Vrl0emxz+LJwVtI4dscPzXtWYXk2M2mFH5jCqNxzYLJ6Uo/rEURjWY0SyVnJE25J5SapZLdna
b+OKEqQ2p85ye3D6dGlJaNlezkNNU/oapZKtnBMynqd0ZNeH7JliqmsPMSmtjsW6YkXY/XXc7fSLxg08cjXg70o8SPhKOfIlSLHfLvxZTEmVm2
nq/9F4LB5c0=
"""

# The same of 2.13.0 in the format of torch before 1.6, below `generator` and beside a defaultdict(int).
LEGACY_BY_TORCH = """
eNp9k1tzk0AUxwmQ1KK9eLde6z31EhOakESrrbXW6norvvDiMAjbgCLkwFJHZzqTl8bqZ/DBR7+Fn8eP4IwPHpb0pugOMHv28vv/97CnJ35W/F9fFn9Ovv
72fKLSE5/8kPC7BkLZGBcEoRuFLLRD31ylUeyFARRwgTGCM77HmE9NGjieFYC4YSg4yN53qRl7H2gM0hrIZaOIg7EbRgyKRDQkjLyAQYnIhpwywqADQ0RO
kk3NYRzt0IBGFgsjKNgo7VOboXKsPIscGlFnwbOZAuKUDlLZKOH6d9TruAxkG7fYbsVMmOfHihnRV4nnOyajQRxG5qqqQLFcNoZSR7jS6lAoZVuURT+02I
tsUIEhYxTXtOvVRk2rtpuaqlVbsIebt7sJDJPSUwbKMhGISKQ+7CUSKfRh3yc39TTCYFSHMX485lEHxt0x7pIlUYDhfhdNuCU3V+SAm8EPpnCJiH04RAqp
xuEMfoTBUR2OcZ4dIi+Cif/xjg94J5aJjCDknczMnsp4pxmc0WGSm3UtfwXOZrRBWuZ5XmraVmbObYs01OnperOptuA8iogocoFnZB0uksI6XMoELjMo6z
DFBYIwoHDlb7tIUmvVeluDq0gSkHQtJQlE7sP11HcfKhntBoOqDjVOW4koBXWX3SU8wZbV6T+sthpNDeoDq42BVS212szgLQZtHW7yG9u1Iust3PrHheKz
lNFIgZnc42BiWk0Vbg/U7gzUZlO1uUztLoN5He5t8GDhI9zXYTHJqoXRbgwPiMSjN17gxLC0qw4cumIlPnN4HTy0TTO1xbzANJW0oBR4tA5Eh8dpUb1Miy
on1YW8PynmnULKS6Scd9uKtCIMmrjZEXqz231hFuPvO+KZkrCz9XBemMMH3x6+X+d+AyE8Lc8=
"""

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
VALUES = {  # that both files have
    "weight": WEIGHT,
    "tied": WEIGHT,
    "turned": WEIGHT.T,
    "corner": WEIGHT[1:, 1:],
    "half": np.array([0, 1], ml_dtypes.bfloat16),
    "none": np.zeros((0, 4), np.float32),
    "free": np.array([0, 1], np.float16),
}
DTYPES = ("f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i4", "i2", "i1", "u1", "?")


def random_array(shape, dtype, seed=0):
    """Random bit patterns for floats and integers, random bools."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    count = int(np.prod(shape)) * dtype.itemsize
    return rng.integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def items(arrays):
    return [Item(key, a.shape, a.dtype, lambda a=a: a) for key, a in arrays.items()]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def archive(path, program, storages=None, more=None, folder="archive", method=zipfile.ZIP_STORED):
    """Writes a zip archive like PyTorch's, with any pickle."""
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr(f"{folder}/data.pkl", program)
        for name, content in {"byteorder": b"little", **(more or {})}.items():
            out.writestr(f"{folder}/{name}", content)
        for key, content in (storages or {"0": np.arange(6, dtype=np.float32).tobytes()}).items():
            out.writestr(f"{folder}/data/{key}", content)
    return path


# Parts of pickle programs.


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def short(value):
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"
ORDERED = b"ccollections\nOrderedDict\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06tQ"
GOOD = TENSOR + b"(" + STORAGE + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89" + ORDERED + b")RtR"
