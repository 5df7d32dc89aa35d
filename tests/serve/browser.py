"""A headless Chromium, driven by its DevTools protocol."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)
_WAIT_S = 45


class Browser:
    """One page of a browser with a fresh profile.

    Args:
      folder: for its profile.
      size: width and height in CSS pixels.
    """

    def __init__(self, folder: Path, size=DESKTOP):
        profile = folder / "profile"
        inputs, self._requests = os.pipe()
        self._answers, outputs = os.pipe()
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{inputs} 4>&{outputs}', "bash"),
                *(
                    CHROMIUM,
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--mute-audio",
                ),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
                *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(inputs, outputs),
        )
        os.close(inputs), os.close(outputs)
        self._ids, self._rest, self._session, self.events = itertools.count(), b"", None, []
        try:
            pages = self.call("Target.getTargets")["targetInfos"]
            target = next(page["targetId"] for page in pages if page["type"] == "page")
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
            self.resize(size)
        except BaseException:
            self._process.kill()
            raise

    def _receive(self):
        """The next message of the browser; they end with a zero byte."""
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], _WAIT_S)[0], "the browser says nothing"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        """The result of a method of the protocol; events that come before it are kept."""
        number = next(self._ids)
        request = {"id": number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._requests, json.dumps(request).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def resize(self, size):
        width, height = size
        mobile = width < 700
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def open(self, url, ready="#generate"):
        self.call("Page.navigate", url=url)
        self.until(f"document.querySelector('{ready}')")

    def run(self, script):
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script, seconds=_WAIT_S):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"!!({script})"):
            assert time.monotonic() < end, f"not within {seconds} seconds: {script}; {self.text()[:2000]}"
            time.sleep(0.1)

    def text(self, selector="body"):
        return self.run(f"document.querySelector('{selector}')?.innerText ?? ''")

    def click(self, selector):
        self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); e.click(); }})(document.querySelector('{selector}'))"
        )

    def type(self, selector, text):
        """Types a text into a field, as a person does."""
        self.run(f"(e => {{ e.scrollIntoView({{block: 'center'}}); e.focus(); e.select(); }})"
                 f"(document.querySelector('{selector}'))")  # fmt: skip
        self.call("Input.insertText", text=text)

    def upload(self, selector, path):
        """Chooses a file in an input of files."""
        document = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        assert node, f"no {selector}"
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drag(self, x, y, to_x, to_y):
        """Draws a line with the mouse."""
        steps = 8
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        for k in range(1, steps + 1):
            at = {"x": x + (to_x - x) * k / steps, "y": y + (to_y - y) * k / steps}
            self.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, button="left", clickCount=1)

    def screenshot(self, path, whole=True):
        """Writes a picture of the page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def requests(self):
        """The addresses that the page has asked for."""
        self.run("0")
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("data:", "blob:", "about:"))]

    def answers(self):
        """(status, address) of what has been answered."""
        self.run("0")
        found = [e["params"]["response"] for e in self.events if e["method"] == "Network.responseReceived"]
        return [(answer["status"], answer["url"]) for answer in found]

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._requests), os.close(self._answers)
