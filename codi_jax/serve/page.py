"""The page, in gradio: what is where, and what happens when something is used. Nothing else imports gradio."""

import asyncio
import importlib
import importlib.util
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from codi_jax.config import ConfigError, first_line
from codi_jax.report.markup import Html, el
from codi_jax.serve import markup
from codi_jax.serve.controls import Controls
from codi_jax.serve.gate import COOKIE, as_client
from codi_jax.serve.playground import Playground
from codi_jax.serve.queue import FairQueue, Job
from codi_jax.serve.results import PlaygroundResult

_POLL_S = 0.2  # of a job
_RUNNING_S = 0.5  # between two updates of a request that runs
_WAITING_S = (1.0, 10.0)  # of one that waits: a tenth of the time left, within these


def gradio_module() -> Any:
    """The module of gradio.

    Raises:
      ConfigError: it is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the playground needs gradio: pip install 'codi_jax[serve]'")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is sent anywhere
    return importlib.import_module("gradio")


class Page:
    """The page of a playground.

    Args:
      play: what it shows, and what its events call.
    """

    def __init__(self, play: Playground):
        self._gr, self._play = gradio_module(), play

    def build(self) -> Any:
        """The `gradio.Blocks`."""
        gr = self._gr
        with gr.Blocks(title="codi_jax playground", analytics_enabled=False) as blocks:
            gr.HTML(self._header())
            with gr.Row(elem_id="columns"):
                with gr.Column(min_width=320):
                    controls = Controls(gr, self._play)
                    with gr.Row(elem_id="act"):
                        go = gr.Button("Generate", variant="primary", elem_id="generate")
                        stop = gr.Button("Cancel", elem_id="cancel")
                with gr.Column(min_width=320, elem_id="made"):
                    status, shown = gr.HTML(elem_id="status"), gr.HTML(markup.EMPTY, elem_id="shown")
                    chosen, again = self._choice()
                    link = self._link()
                    past, show, load = self._history()
            token, search = gr.State(""), gr.Textbox(visible=False)
            view = [status, shown, chosen, link, past, token]
            options = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
            for start in (go.click, *controls.submits()):
                start(self._run(controls), controls.all, view, **options)
            stop.click(self._cancel(), [token], [status], **options)
            again.click(self._give(controls), [past, chosen], [status, *controls.all], **options)
            show.click(self._show(), [past], view, **options)
            load.click(self._load(controls), [past], [status, *controls.all], **options)
            on_load = "() => [window.location.search.slice(1)]"
            blocks.load(self._open(controls), [search], [status, past, *controls.all], js=on_load, **options)
        blocks.queue(default_concurrency_limit=None, api_open=False)
        return blocks

    def _header(self) -> Html:
        text = (
            f"Generate any of {', '.join(self._play.modalities)} from any of them, together: give what you have, tick "
            "what is to be made, and see it take shape."
        )
        return el("header", el("h1", "Playground"), el("p", text), el("p", self._play.title, class_="model"))

    def _choice(self) -> tuple[Any, Any]:
        gr = self._gr
        with gr.Row(elem_id="reuse"):
            chosen = gr.Dropdown(
                [],
                label="An output of the result",
                info="It can be what is given next.",
                elem_id="chosen",
                scale=2,
            )
            again = gr.Button("Use this output as a prompt", size="sm", elem_id="again", scale=1)
        return chosen, again

    def _link(self) -> Any:
        return self._gr.Textbox(
            label="Permanent link to this setting",
            info="Opens this page with the same controls. Files are not in it; the download has them.",
            buttons=["copy"],
            interactive=False,
            max_lines=4,
            elem_id="link",
        )

    def _history(self) -> tuple[Any, Any, Any]:
        gr, limits = self._gr, self._play.limits.results
        about = (
            f"The last {limits.of_a_client} results of this browser, kept for {limits.minutes:g} minutes. Nobody else "
            "sees them."
        )
        with gr.Accordion("History", open=True, elem_id="history"):
            past = gr.Dropdown([], label="Your results", info=about, elem_id="past")
            with gr.Row():
                show = gr.Button("Show it", size="sm", elem_id="show")
                load = gr.Button("Set the controls as they were", size="sm", elem_id="load")
        return past, show, load

    # What happens: functions that gradio calls with the request first, by its annotation.

    def _event(self, function: Callable[..., Any]) -> Any:
        function.__annotations__ = {"request": self._gr.Request}
        return function

    def _run(self, controls: Controls) -> Any:
        async def run(request: Any, *values: Any) -> AsyncIterator[list[Any]]:
            client, play = client_of(request), self._play
            try:
                setting, files = controls.read(values)
                reading = play.read(client, setting, files)
                async for line in _follow(play.decoding, reading, "Before it is read"):
                    yield self._view(line, token=reading.token)
                job = play.compute(client, result_of(reading))
                async for line in _follow(play.computing, job):
                    shown = None if job.preview is None else markup.preview(job.preview)
                    yield self._view(line, shown, token=job.token)
                made: PlaygroundResult = result_of(job)
                line = markup.line(f"Done in {made.seconds:.1f} seconds")
                yield self._view(line, markup.result(made), client, made, origin=origin_of(request))
            except ConfigError as error:
                yield self._view(markup.line(first_line(error), "error"))

        return self._event(run)

    def _view(
        self,
        status: Html,
        shown: Html | None = None,
        client: str = "",
        made: PlaygroundResult | None = None,
        token: str | None = None,
        origin: str = "",
    ) -> list[Any]:
        """Values of status, shown, chosen, link, past and token; what is None stays as it is."""
        gr, skip = self._gr, self._gr.skip()
        start = [status, skip if shown is None else shown]
        if made is None:
            return [*start, skip, skip, skip, skip if token is None else token]
        names = [name for name in made.files if not name.startswith("given_")]
        chosen = gr.update(choices=names, value=names[0] if names else None)
        return [*start, chosen, markup.link(made.setting, origin), self._past(client, made.token), made.token]

    def _past(self, client: str, token: str | None = None) -> Any:
        own = self._play.results.of_client(client)
        choices = [(markup.label(made, len(own) - i), made.token) for i, made in enumerate(own)]
        return self._gr.update(choices=choices, value=token or (choices[0][1] if choices else None))

    def _cancel(self) -> Any:
        def cancel(request: Any, token: str) -> Any:
            ended = self._play.cancel(client_of(request), token)
            return markup.line("Cancelled") if ended else self._gr.skip()

        return self._event(cancel)

    def _show(self) -> Any:
        def show(request: Any, token: str | None) -> list[Any]:
            client = client_of(request)
            try:
                made = self._play.result(client, token or "")
            except ConfigError as error:
                return self._view(markup.line(first_line(error), "error"))
            return self._view(markup.line(""), markup.result(made), client, made, origin=origin_of(request))

        return self._event(show)

    def _give(self, controls: Controls) -> Any:
        def give(request: Any, token: str | None, name: str | None) -> list[Any]:
            try:
                modality, value = self._play.give(client_of(request), token or "", name or "")
            except ConfigError as error:
                return [markup.line(first_line(error), "error"), *controls.as_they_are()]
            return [markup.line(f"{name} is what is given as {modality} now"), *controls.give(modality, value)]

        return self._event(give)

    def _load(self, controls: Controls) -> Any:
        def load(request: Any, token: str | None) -> list[Any]:
            client = client_of(request)
            try:
                made = self._play.result(client, token or "")
                names = [name for name in made.files if name.startswith("given_")]
                files = dict(self._play.give(client, made.token, name) for name in names)
            except ConfigError as error:
                return [markup.line(first_line(error), "error"), *controls.as_they_are()]
            return [markup.line("The controls are as they were"), *controls.put(made.setting, files)]

        return self._event(load)

    def _open(self, controls: Controls) -> Any:
        def opened(request: Any, search: str) -> list[Any]:
            past = self._past(client_of(request))
            try:
                setting = self._play.linked(search or "")
            except ConfigError as error:
                return [markup.line(first_line(error), "error"), past, *controls.as_they_are()]
            if setting is None:
                return [markup.line(""), past, *controls.as_they_are()]
            missing = ", ".join(setting.files())
            note = (
                f"This link used files of {missing}, which are not in it: give some, or leave them out."
                if missing
                else ""
            )
            return [markup.line(note, "note"), past, *controls.put(setting, {})]

        return self._event(opened)


async def _follow(queue: FairQueue, job: Job, waits: str = "In the queue") -> AsyncIterator[Html]:
    """Lines about a job until it has ended, which is cancelled if nobody reads them any more."""
    due, loop, place = 0.0, asyncio.get_running_loop(), -1
    try:
        while not job.ended:
            where = queue.standing(job)
            if loop.time() >= due or (where.place == 0 and place != 0):
                yield markup.standing(job, where, waits)
                waiting = min(max(_WAITING_S[0], (where.seconds or 0) / 10), _WAITING_S[1])
                due, place = loop.time() + (waiting if where.place else _RUNNING_S), where.place
            await asyncio.sleep(_POLL_S)
    finally:
        if not job.ended:
            queue.cancel(job)


def result_of(job: Job) -> Any:
    """What a job that has ended has made.

    Raises:
      ConfigError: nothing, since it has failed or was cancelled.
    """
    if job.state == "done":
        return job.result
    raise ConfigError(job.error or "cancelled")


def client_of(request: Any) -> str:
    """Whose a request is: by its cookie; without one, by the name of its page."""
    cookies = request.request.cookies if request.request is not None else {}
    return as_client(cookies.get(COOKIE)) or f"session {request.session_hash}"


def origin_of(request: Any) -> str:
    """The address of the page, as its browser says it; "" if it does not."""
    return "" if request.request is None else request.request.headers.get("origin", "")
