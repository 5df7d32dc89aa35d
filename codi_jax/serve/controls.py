"""The controls of the page, what each does in a line, and a setting from their values and back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.serve import markup
from codi_jax.serve.playground import Playground
from codi_jax.serve.setting import Setting, Use
from codi_jax.serve.widgets import InControl, Widget, widget_of

_ROLE = (
    "A prompt leads what is generated. What is kept is in the result as it is, and the rest goes with it. A change "
    "starts from it."
)
_PER_MODALITY = ("value", "role", "weight", "keep", "strength")
_COUNTS = (1, 4, 8, 16, 32)  # few, since each is compiled


class Controls:
    """The controls, made where it is constructed.

    Args:
      gr: the module of gradio.
      play: the playground.

    Attributes:
      all: the components, in the order of values of events.
    """

    def __init__(self, gr: Any, play: Playground):
        self._gr, self._names = gr, play.modalities
        self._limits, self._folder = play.limits.request, str(play.folder.path)
        self._widgets = {name: widget_of(play.codi[name]) for name in self._names}
        config = play.pipe.config.complete(self._names)
        self._guidance = {name: float(getattr(config.guidance[name], "prompt", 3.0)) for name in self._names}
        self._steps = min(config.steps, self._limits.steps)
        self._counts = [count for count in _COUNTS if count <= self._limits.n]
        self._parts: dict[str, dict[str, Any]] = {}
        gr.HTML(markup.heading("1", "What is given", "Any of these, or none."))
        for i, name in enumerate(self._names):
            with gr.Accordion(name, open=not i, elem_id=f"given-{name}"):
                self._parts[name] = self._given(name, play)
        gr.HTML(markup.about_limits(self._limits))
        gr.HTML(markup.heading("2", "What is generated", "All outputs are generated together and fit each other."))
        self._common = self._outputs()
        self.all = [
            *(self._parts[name][field] for name in self._names for field in _PER_MODALITY),
            *self._common.values(),
        ]

    def _given(self, name: str, play: Playground) -> dict[str, Any]:
        gr, widget = self._gr, self._widgets[name]
        parts = {"value": widget.make(gr, play.codi[name], self._limits)}
        if widget.about:
            gr.HTML(markup.help_line(widget.about))
        choices = widget.choices()
        parts["role"] = gr.Radio(choices, value=choices[0][1], label="Use it as", info=_ROLE, elem_id=f"role-{name}")
        parts["weight"] = gr.Slider(
            *(0, 1),
            value=1,
            step=0.05,
            label="Mix weight",
            info="How much it counts beside other prompts; 0 leaves it out.",
            elem_id=f"weight-{name}",
        )
        parts["keep"] = gr.Textbox(
            label="The part that is kept",
            info=widget.keeps or "Nothing to write here.",
            visible=False,
            max_length=200,
            elem_id=f"keep-{name}",
        )
        parts["strength"] = gr.Slider(
            *(0.05, 1),
            value=0.6,
            step=0.05,
            label="Strength of the change",
            info="The share of the steps that are taken: little changes details, 1 makes it anew.",
            visible=False,
            elem_id=f"strength-{name}",
        )
        self._follow_role(parts, widget)
        return parts

    def _follow_role(self, parts: Mapping[str, Any], widget: Widget) -> None:
        def shown(role: str) -> list[Any]:
            return [
                self._gr.update(visible=role == "part" and bool(widget.keeps)),
                self._gr.update(visible=role == "change"),
            ]

        parts["role"].change(
            shown,
            [parts["role"]],
            [parts["keep"], parts["strength"]],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _outputs(self) -> dict[str, Any]:
        gr, limits = self._gr, self._limits
        common = {
            "to": gr.CheckboxGroup(
                list(self._names),
                value=list(self._names[1:] or self._names),
                label="Outputs",
                info="Ticked ones are generated, beside what is kept or changed above.",
                elem_id="to",
            )
        }
        common["n"] = gr.Radio(
            self._counts, value=self._counts[0], label="Samples", info="How many of each, all different.", elem_id="n"
        )
        common["steps"] = gr.Slider(
            *(1, limits.steps),
            value=self._steps,
            step=1,
            label="Steps",
            info="More take longer and follow the model more closely.",
            elem_id="steps",
        )
        with gr.Row(elem_id="seed-row"):
            common["seed"] = gr.Number(
                0,
                precision=0,
                minimum=0,
                label="Seed",
                info="The same seed and controls give the same samples.",
                elem_id="seed",
            )
            another = gr.Button("Another seed", size="sm")
        another.click(None, None, common["seed"], js="() => Math.floor(Math.random() * 2 ** 31)")
        with gr.Accordion("Guidance", open=False):
            gr.HTML(markup.help_line("How closely an output follows the prompts; 1 does without, too much is crude."))
            for name in self._names:
                common[f"guidance {name}"] = gr.Slider(
                    *(0, min(limits.guidance, 15)),
                    value=self._guidance[name],
                    step=0.1,
                    label=name,
                    elem_id=f"guidance-{name}",
                )
        return common

    def submits(self) -> list[Callable[..., Any]]:
        """Events that generate, beside the button: the enter key in a text."""
        values = [self._parts[name]["value"] for name in self._names]
        return [value.submit for value in values if hasattr(value, "submit")]

    def read(self, values: Sequence[Any]) -> tuple[Setting, dict[str, InControl]]:
        """The setting and the files of the values of `all`.

        Raises:
          ConfigError: a value that no control has.
        """
        given: dict[str, Use] = {}
        files: dict[str, InControl] = {}
        rows = len(_PER_MODALITY)
        for i, name in enumerate(self._names):
            value, role, weight, keep, strength = values[i * rows : (i + 1) * rows]
            found = self._widgets[name].given(value, role)
            if found is None:
                continue
            if isinstance(found.file, str) and not found.file.startswith(self._folder + "/"):
                raise ConfigError(f"{name}: the file is gone; give it again")
            text = None if found.text is None else found.text.strip()
            given[name] = Use(role, _number(weight), str(keep or ""), _number(strength), text)
            if text is None:
                files[name] = found
        common = dict(zip(self._common, values[len(self._names) * rows :], strict=True))
        kept = [name for name, use in given.items() if use.role != "prompt"]
        outputs = [name for name in self._names if name in (common["to"] or ())]
        scales = {name: _number(common[f"guidance {name}"]) for name in dict.fromkeys((*outputs, *kept))}
        own = {name: scale for name, scale in scales.items() if scale != self._guidance[name]}
        counts = {name: int(_number(common[name])) for name in ("steps", "seed", "n")}
        return Setting(to=tuple(outputs), given=given, guidance=own, **counts), files

    def put(self, setting: Setting, files: Mapping[str, str]) -> list[Any]:
        """The values of `all` for a setting, and files by modality."""
        gr, out = self._gr, []
        for name in self._names:
            use, widget = setting.given.get(name), self._widgets[name]
            value = files.get(name) if use is None or use.text is None else use.text
            use = use or Use()
            out += [
                gr.update(value=None if value is None else widget.put(value)),
                gr.update(value=use.role if use.role in widget.roles else widget.roles[0]),
                gr.update(value=use.weight),
                gr.update(value=use.keep, visible=use.role == "part" and bool(widget.keeps)),
                gr.update(value=use.strength, visible=use.role == "change"),
            ]
        for field in self._common:
            _, _, name = field.partition("guidance ")
            if name:
                out.append(gr.update(value=setting.guidance.get(name, self._guidance[name])))
            elif field == "to":
                out.append(gr.update(value=[name for name in self._names if name in setting.to]))
            elif field == "n":
                out.append(gr.update(choices=sorted({*self._counts, setting.n}), value=setting.n))
            else:
                out.append(gr.update(value=getattr(setting, field)))
        return out

    def give(self, name: str, value: str) -> list[Any]:
        """The values of `all` that give a text or a file as a prompt, and leave the rest as it is."""
        skip = self._gr.skip()
        out = [skip] * len(self.all)
        at = self._names.index(name) * len(_PER_MODALITY)
        out[at] = self._gr.update(value=self._widgets[name].put(value))
        out[at + 1] = self._gr.update(value="prompt")
        return out

    def as_they_are(self) -> list[Any]:
        """The values of `all` that change nothing."""
        return [self._gr.skip()] * len(self.all)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"expected a number, got {str(value)[:40]!r}")
    return float(value)
