"""The card of a model, README.md, as the Hugging Face hub reads it: YAML front matter, then Markdown.

license, library_name, pipeline_tag, tags      what the hub's search filters by
model-index                                    numbers that have an interval, or are results of `codi-jax evaluate`
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = "README.md"
_FRONT = re.compile(r"\A---\n.*?^---\n\s*", re.DOTALL | re.MULTILINE)
_END = "<!-- /usage -->"
_HEADLINES = ("accuracy", "joint", "value")  # the number of a row with an interval, the first of these
_MOST = 200  # results
_IN_FRONT = 40  # of them in the front matter


@dataclasses.dataclass(frozen=True)
class Number:
    """A result.

    Attributes:
      name: of what, such as "text->image digit accuracy".
      value: the number.
      interval: its 95 % interval, if there is one.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None


def numbers(metrics: Mapping[str, Any]) -> list[Number]:
    """The results in metrics.json, or in the numbers of card.json, in their order."""
    if isinstance(results := metrics.get("results"), Sequence):
        return list(_of_results(results))[:_MOST]
    return list(_with_intervals(metrics, ()))[:_MOST]


def _of_results(results: Sequence[Any]) -> Iterator[Number]:
    """Of `codi-jax evaluate --samples`: rows {"metric", "on", "network", "numbers", "intervals"}."""
    for row in results:
        match row:
            case {"metric": str(metric), "on": list(on), "numbers": dict(values)}:
                of = " ".join(filter(None, ("+".join(map(str, on)), row.get("network"))))
                for key, value in values.items():
                    if _is_number(value):
                        name = metric if key == metric else f"{metric} {key}"
                        yield Number(f"{of} {name}".strip(), value, _interval(row.get("intervals", {}).get(key)))


def as_results(rows: Sequence[Number]) -> dict[str, Any]:
    """The results as in metrics.json, from which `numbers` reads them again."""
    return {
        "results": [
            {
                "metric": row.name,
                "on": [],
                "numbers": {row.name: row.value},
                "intervals": {} if row.interval is None else {row.name: list(row.interval)},
            }
            for row in rows
        ]
    }


def _with_intervals(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Number]:
    """Of `codi-jax evaluate`: every row that has an interval."""
    headline = next((key for key in _HEADLINES if _is_number(tree.get(key))), None)
    if headline is not None and (interval := _interval(tree.get("interval"))):
        yield Number(" ".join((*path, headline)), tree[headline], interval)
        return
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _with_intervals(value, path if key in ("matrix", "factors", "joint") else (*path, str(key)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _interval(value: Any) -> tuple[float, float] | None:
    match value:
        case [low, high] if _is_number(low) and _is_number(high):
            return low, high
    return None


def table(rows: Sequence[Number]) -> str:
    """The results as a table in Markdown; "" if there are none."""
    if not rows:
        return ""
    lines = ["| result | value | 95 % |", "|---|---|---|"]
    for row in rows:
        interval = "" if row.interval is None else f"{row.interval[0]:.4g}–{row.interval[1]:.4g}"
        lines.append(f"| {row.name.replace('|', '/')} | {row.value:.4g} | {interval} |")
    return "\n".join([*lines, ""])


def front_matter(title: str, modalities: Sequence[str], license: str, rows: Sequence[Number] = ()) -> str:
    """The YAML at the beginning of a card.

    Args:
      title: the name of the model.
      modalities: of the model, which are tags.
      license: of the weights, as the hub names it ("mit"); "" if it is not known.
      rows: the results.
    """
    lines = [
        "---",
        *([f"license: {json.dumps(license.lower())}"] if license else []),
        "library_name: codi_jax",
        "pipeline_tag: any-to-any",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in dict.fromkeys(("codi", "any-to-any", "diffusion", "jax", *modalities))),
    ]
    if rows:
        lines += ["model-index:", f"- name: {json.dumps(title)}", "  results:", "  - task:", "      type: any-to-any"]
        lines += ["    dataset:", "      name: codi-jax evaluate", "      type: codi-jax-evaluate", "    metrics:"]
        for row in rows[:_IN_FRONT]:
            lines.append(f"    - type: {json.dumps(row.name.split()[-1])}")
            lines += [f"      name: {json.dumps(row.name)}", f"      value: {json.dumps(row.value)}"]
    return "\n".join([*lines, "---", "", ""])


def render(
    title: str,
    modalities: Sequence[str],
    *,
    where: str,
    license: str,
    rows: Sequence[Number],
    plugins: Sequence[str],
    body: str,
) -> str:
    """The whole card.

    Args:
      title: the name of the model.
      modalities: of the model.
      where: what `codi_jax.load` takes for it.
      license: see `front_matter`.
      rows: the results, for the front matter.
      plugins: modules that the model needs.
      body: what follows, in Markdown; of another card, its heading and how that one is loaded are left out.
    """
    arguments = f", plugins={json.dumps(list(plugins))}" if plugins else ""
    lines = [
        f"# {title}",
        "",
        f"A model of codi_jax (CoDi in JAX, arXiv 2305.11846): any combination of {', '.join(modalities)} in, any",
        "combination out, generated jointly.",
        "",
        "```python",
        "import codi_jax",
        "",
        f"pipe = codi_jax.load({json.dumps(where)}{arguments})",
        f"out = pipe(to={json.dumps(list(modalities))}, n=4)",
        "```",
        "",
        *((f"It needs the code of {', '.join(plugins)}, which is not in these files.", "") if plugins else ()),
        _END,
        "",
        "",
    ]
    return front_matter(title, modalities, license, rows) + "\n".join(lines) + body_of(body)


def body_of(text: str) -> str:
    """What a card says beside its front matter, its heading and how the model is loaded."""
    text = _FRONT.sub("", text, count=1)
    text = text.partition(_END)[2] if _END in text else re.sub(r"\A# .*\n", "", text)
    return text.lstrip("\n")
