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
