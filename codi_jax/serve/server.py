"""The page behind its gate, and the server that answers."""

import importlib
import os
import signal
import socket
import sys
import threading
from importlib import resources
from typing import Any

from codi_jax.config import ConfigError
from codi_jax.serve.gate import Asgi, Gate, client_of
from codi_jax.serve.page import Page, gradio_module
from codi_jax.serve.playground import Playground

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # none is fetched from elsewhere
MONO = ("ui-monospace", "Consolas", "monospace")
_KEEP_ALIVE_S = 10
_CONNECTIONS = 2000  # a page holds two or three


def application(play: Playground) -> Asgi:
    """The page, its downloads, and the gate before both, as an ASGI application.

    Raises:
      ConfigError: gradio is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(play.folder.path)  # before the page is made, whose components keep it
    gr = gradio_module()
    fastapi = importlib.import_module("fastapi")
    # None of its documentation: the page is all that there is.
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def result(token: str, request: Any) -> Any:
        made = play.results.get(token)
        if made is None or made.client not in (client_of(request.scope), ""):
            return fastapi.Response("this result is not kept any more\n", 404, media_type="text/plain")
        name = f"codi-jax-{made.setting.seed}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
        return fastapi.Response(made.zip(), media_type="application/zip", headers=headers)

    result.__annotations__["request"] = fastapi.Request
    app.get("/result/{token}", response_class=fastapi.Response)(result)
    theme = gr.themes.Default(font=list(FONTS), font_mono=list(MONO))
    blocks = Page(play).build()
    blocks.has_launched = True  # until then gradio copies any file of this machine that a client names
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=int(play.limits.request.megabytes * 1e6),
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=resources.files("codi_jax.serve").joinpath("style.css").read_text(encoding="utf-8"),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    return Gate(app, play.folder, play.limits.request.megabytes)


class Server:
    """Answers on an address, in this thread (`run`) or in another (`start`, `stop`).

    Args:
      play: the playground.
      host: the address to bind to.
      port: 0 for a free one.
    """

    def __init__(self, play: Playground, host: str = "127.0.0.1", port: int = 7860):
        app, uvicorn = application(play), importlib.import_module("uvicorn")
        self._play = play
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
            limit_concurrency=_CONNECTIONS,
        )
        self._host, self._server = host, uvicorn.Server(config)
        self._socket = _bound(host, port, config.backlog)
        self._thread = threading.Thread(target=self.run, daemon=True)

    @property
    def url(self) -> str:
        """The address of the page."""
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{name}:{self._socket.getsockname()[1]}/"

    def run(self) -> None:
        """Answers until it is interrupted or terminated, and closes the playground."""
        if threading.current_thread() is threading.main_thread():
            # uvicorn ends by itself, and then raises the signal again, by which the process would end at once.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:  # how such a server ends
            pass
        finally:
            self._play.close()

    def start(self) -> None:
        """Answers in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends what `start` has started."""
        self._server.should_exit = True
        self._thread.join(timeout=30)


def _bound(host: str, port: int, backlog: int) -> socket.socket:
    """The socket, bound before anything is printed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"--host {host} --port {port}: {(error.strerror or str(error)).lower()}") from None
    bound.listen(backlog)
    return bound
