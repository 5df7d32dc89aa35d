"""Values of a table's row: a column, several columns, or a text made of columns.

"caption"                       the column; "sentences/raw" for what is nested in it, of every object of a list
("caption_1", "caption_2")      a list of the columns that are not empty
"{ytid}_{start:06d}.wav"        a text: values as they are, or by a format of Python (width, precision and one of
                                d, f, s), or by `ms`, which writes a time as whole milliseconds; values of a list
                                are joined by ", "
"""

import math
import re
import string
from collections.abc import Callable, Container, Mapping
from typing import Any

from codi_jax.config import ConfigError

_SPEC = re.compile(r"(?:[^{}]?[<>^=])?[+\- ]?\d{0,3}(?:\.\d{1,2})?(d|f|s|ms)?")


class Column:
    """Reads a value from a row.

    Attributes:
      names: the columns that it reads.

    Args:
      spec: see the module.

    Raises:
      ConfigError: a text with braces that is not of this form.
    """

    def __init__(self, spec: str | tuple[str, ...]):
        self._read: Callable[[Mapping[str, Any]], Any]
        if isinstance(spec, tuple):
            self.names = spec
            self._read = lambda row: [x for name in spec for x in as_list(value_of(row, name))]
        elif "{" in spec or "}" in spec:
            pieces = _parse(spec)
            self.names = tuple(name for _, name, _ in pieces if name)
            self._read = lambda row: _formatted(pieces, row)
        else:
            self.names = (spec,)
            self._read = lambda row: value_of(row, spec)

    def __call__(self, row: Mapping[str, Any]) -> Any:
        """The value; None if there is none. Raises ValueError if a value has not the type of its format."""
        return self._read(row)


def value_of(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of what is nested in it; None if the row has no value."""
    if name in row or "/" not in name:
        return row.get(name)
    value: Any = row
    for key in name.split("/"):
        if isinstance(value, (list, tuple)):
            value = [x.get(key) for x in value if isinstance(x, Mapping)]
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def is_present(name: str, columns: Container[str]) -> bool:
    """Whether a table with these columns has the column that `value_of` reads."""
    return name in columns or ("/" in name and name.split("/")[0] in columns)


def as_list(value: Any) -> list[Any]:
    """The values of a list, or the one value; none of an empty one."""
    if isinstance(value, (list, tuple)):
        return [x for x in value if x not in (None, "")]
    return [] if value in (None, "") else [value]


def _parse(template: str) -> list[tuple[str, str, str]]:
    """(literal, column, format) of each piece; the column of the last may be empty."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"column {template!r}: {error}; write {{{{ and }}}} for braces") from error
    pieces = []
    for literal, name, spec, conversion in parsed:
        if name == "" or conversion is not None or not _SPEC.fullmatch(spec or ""):
            raise ConfigError(
                f"column {template!r}: expected {{COLUMN}} or {{COLUMN:FORMAT}}, where FORMAT is a width, a precision "
                "and one of d, f, s and ms, such as 06d"
            )
        pieces.append((literal, name or "", spec or ""))
    return pieces


def _formatted(pieces: list[tuple[str, str, str]], row: Mapping[str, Any]) -> str | None:
    text = ""
    for literal, name, spec in pieces:
        text += literal
        if name:
            values = as_list(value_of(row, name))
            if not values:
                return None
            text += ", ".join(_text(value, spec, name) for value in values)
    return text


def _text(value: Any, spec: str, name: str) -> str:
    try:
        if spec.endswith("ms"):
            return format(round(1000 * seconds(value)), f"{spec[:-2]}d")
        if spec.endswith("d"):
            number = float(value)
            if not number.is_integer():
                raise ValueError
            return format(int(value) if isinstance(value, (int, str)) and "." not in str(value) else int(number), spec)
        if spec.endswith("f"):
            return format(float(value), spec)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is not what the format {spec!r} writes: {value!r:.80}") from None
    return format(str(value), spec)


_NUMBER = r"(\d+(?:\.\d+)?)"
_CLOCK = re.compile(rf"(?:(\d+):)?(\d+):{_NUMBER}")
_ISO = re.compile(rf"PT(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?")


def seconds(value: Any) -> float:
    """A time in seconds (1.5), on a clock (00:01:30.5) or in ISO 8601 (PT1M30S), as seconds.

    Raises:
      ValueError: it is none of these.
    """
    try:
        text = str(value).strip()
        if (match := _CLOCK.fullmatch(text) or _ISO.fullmatch(text)) and any(match.groups()):
            hours, minutes, rest = (float(part or 0) for part in match.groups())
            return 3600 * hours + 60 * minutes + rest
        if math.isfinite(number := float(value)):
            return number
    except (TypeError, ValueError):
        pass
    raise ValueError(f"not a time (1.5, 00:01:30.5 or PT1M30S): {value!r:.80}")
