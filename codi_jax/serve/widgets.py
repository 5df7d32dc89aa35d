"""The control in which a value of a modality is given, by the files that the modality writes.

Controls hand on files as they were uploaded: gradio would decode images in this process.
"""

import collections
import dataclasses
import threading
from abc import ABCMeta
from collections.abc import Callable, Sequence
from typing import Any

from codi_jax.modalities.base import Modality
from codi_jax.serve.setting import Limits, Role

_EDITED = 256  # drawings that the browser has sent and not yet used, of all clients
_ROLES: dict[Role, str] = {
    "prompt": "prompt",
    "whole": "keep all of it",
    "part": "keep a part",
    "change": "change it",
}


@dataclasses.dataclass(frozen=True)
class InControl:
    """What is in a control.

    Attributes:
      text: a text; None for a file.
      file: a path, or the contents of a file.
      paint: pictures with transparency of what is painted over the file.
      drawn: whether the file is nothing but what is painted.
    """

    text: str | None = None
    file: str | bytes | None = None
    paint: tuple[str | bytes, ...] = ()
    drawn: bool = False


@dataclasses.dataclass(frozen=True)
class Widget:
    """A control.

    Attributes:
      make: (gradio, modality, limits) -> the component.
      given: (the component's value, role) -> what is in it; None if nothing is.
      put: (path of a file, or text) -> the component's value.
      about: what the control does, for people; "" if that is plain.
      roles: what its value can be.
      keeps: what is written into the field of a part that is kept; "" if there is none.
    """

    make: Callable[[Any, Modality, Limits], Any]
    given: Callable[[Any, Role], InControl | None]
    put: Callable[[str], Any]
    about: str
    roles: Sequence[Role] = ("prompt", "whole", "part", "change")
    keeps: str = ""

    def choices(self) -> list[tuple[str, Role]]:
        """The choices of roles: what is shown, and its name."""
        return [(_ROLES[role], role) for role in self.roles]


def widget_of(modality: Modality) -> Widget:
    """The control of a modality."""
    return _WIDGETS.get(modality.suffix, _FILE)


def _unread(base: type, **methods: Any) -> type:
    """A class of components of gradio with other methods, which looks the same in the browser."""
    # The metaclass of components would write a stub file beside this one.
    return ABCMeta.__new__(type(base), base.__name__, (base,), {"is_template": True, **methods})


def _path(self: Any, payload: Any) -> str | None:
    """`preprocess` of a component of files."""
    del self
    return None if payload is None else payload.path


def _text(gr: Any, modality: Modality, limits: Limits) -> Any:
    return gr.Textbox(
        label=modality.name,
        show_label=False,
        lines=2,
        max_lines=6,
        max_length=limits.characters,
        placeholder="a red seven moving left",
        elem_id=f"value-{modality.name}",
    )


def _given_text(value: Any, role: Role) -> InControl | None:
    del role
    return InControl(text=value) if isinstance(value, str) and value.strip() else None


def _given_file(value: Any, role: Role) -> InControl | None:
    del role
    return InControl(file=value) if value else None


def _audio(gr: Any, modality: Modality, limits: Limits) -> Any:
    del limits
    make = _unread(gr.Audio, preprocess=_path)
    sources = ["upload", "microphone"]
    return make(sources=sources, type="filepath", show_label=False, elem_id=f"value-{modality.name}")


def _video(gr: Any, modality: Modality, limits: Limits) -> Any:
    del limits
    make = _unread(gr.Video, preprocess=_path)
    return make(sources=["upload", "webcam"], show_label=False, height=240, elem_id=f"value-{modality.name}")


def _file(gr: Any, modality: Modality, limits: Limits) -> Any:
    del limits
    make = _unread(gr.File, preprocess=_path)
    return make(label=f"a file ({modality.suffix})", height=120, elem_id=f"value-{modality.name}")


class _Edited:
    """Drawings that browsers have sent for a control, by a name of the browser; the oldest are dropped."""

    def __init__(self, most_bytes: float) -> None:
        self._parts: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()
        self._lock, self._most = threading.Lock(), most_bytes

    def accept(self, data: Any) -> None:
        """Takes a part of a drawing."""
        about, contents = data.data, data.files[0][1]
        kind, index, name = about["type"], about.get("index"), str(about["id"])[:64]
        with self._lock:
            parts = self._parts.setdefault(name, {})
            parts[f"layer {index}" if kind == "layer" else str(kind)] = contents
            total = sum(len(part) for parts in self._parts.values() for part in parts.values())
            while len(self._parts) > _EDITED or (total > self._most and self._parts):
                _, dropped = self._parts.popitem(last=False)
                total -= sum(map(len, dropped.values()))

    def take(self, name: str) -> dict[str, Any]:
        """The parts of a drawing, which are forgotten."""
        with self._lock:
            return self._parts.pop(name, {})


def _image(gr: Any, modality: Modality, limits: Limits) -> Any:
    edited = _Edited(limits.megabytes * 1e6 * 8)

    def accept_blobs(self: Any, data: Any) -> None:
        del self
        edited.accept(data)

    def preprocess(self: Any, payload: Any) -> dict[str, Any] | None:
        del self
        if payload is None:
            return None
        if payload.id is not None:
            parts = edited.take(payload.id)
            layers = [parts[key] for key in sorted(parts) if key.startswith("layer")]
            return {"background": parts.get("background"), "layers": layers, "composite": parts.get("composite")}
        path = lambda file: None if file is None else file.path  # noqa: E731
        layers = [path(layer) for layer in payload.layers or () if layer is not None]
        return {"background": path(payload.background), "layers": layers, "composite": path(payload.composite)}

    accept_blobs._is_server_fn = True  # pyright: ignore
    accept_blobs.__annotations__ = dict(gr.ImageEditor.accept_blobs.__annotations__)
    make = _unread(gr.ImageEditor, preprocess=preprocess, accept_blobs=accept_blobs)
    return make(
        type="filepath",
        show_label=False,
        sources=["upload", "webcam", "clipboard"],
        canvas_size=(512, 512),
        layers=False,
        brush=gr.Brush(default_size=24),
        height=420,
        elem_id=f"value-{modality.name}",
    )


def _given_image(value: Any, role: Role) -> InControl | None:
    if not value or not any(value.values()):
        return None
    background, paint = value["background"], tuple(value["layers"])
    if role in ("part", "change") and background is not None:
        return InControl(file=background, paint=paint)
    file = value["composite"] or background
    return None if file is None else InControl(file=file, paint=paint, drawn=background is None)


def _put_image(path: str) -> dict[str, Any]:
    return {"background": path, "layers": [], "composite": path}


_TIMES = "0-0.5s, or 0-0.2s,0.8-1s: seconds that are kept; the rest is generated"
_FRAMES = "0 or 0,5-7: frames that are kept, or 0-0.5s: seconds; the rest is generated"
_WIDGETS = {
    ".txt": Widget(_text, _given_text, str, ""),
    ".png": Widget(
        _image,
        _given_image,
        _put_image,
        "Upload, paste or draw. To keep a part or change one, paint over what is generated anew, in any colour. The "
        "centre square is used.",
    ),
    ".wav": Widget(_audio, _given_file, str, "Upload or record. Its beginning is used.", keeps=_TIMES),
    ".mp4": Widget(_video, _given_file, str, "Upload or record. Its beginning is used.", keeps=_FRAMES),
}
_FILE = Widget(_file, _given_file, str, "Upload a file.", roles=("prompt", "whole"))
