"""A headless Chromium, driven through its DevTools protocol: enough to open pages, listen, and click."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable() -> str | None:
    """Chromium's path, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


# Answered when the page is loaded and all its formulas are set; never by a page that sends the reader on, which ends the
# question when it goes. The page that it sent to may be asked before it is there.
READY = """document.querySelector("meta[http-equiv=refresh i]") ? new Promise(() => {})
           : new Promise(then => document.readyState === "complete" ? then() : addEventListener("load", () => then()))
             .then(() => window.MathJax?.startup?.promise).then(() => true)"""


class Navigated(RuntimeError):
    """The page that was asked has given way to another."""


class Browser:
    """One tab. `errors` and `requests` collect what the page that is open now complains of and asks for."""

    def __init__(self, profile: Path):
        # No sandbox: it needs privileges that containers lack, and the pages are our own. No network of any kind:
        # a name that is looked up is refused, so that a page that needs one fails visibly.
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self.process = subprocess.Popen([executable(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.numbers, self.errors, self.requests, self.loaded = itertools.count(1), [], [], False
        self.socket = websocket.create_connection(self.address(profile), timeout=60, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def address(self, profile: Path) -> str:
        """The tab's websocket, once Chromium has written its port."""
        port, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (port.exists() and port.read_text().strip()):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"{executable()} did not start (exit status {self.process.poll()})")
            time.sleep(0.1)
        with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
            return next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")

    def call(self, method: str, **params) -> dict:
        """Send one command and return its result, taking note of what happens meanwhile."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self.socket.recv())).get("id") != number:
            self.note(message)
        if "error" in message:
            if "navigated" in message["error"]["message"]:
                raise Navigated(f"{method}: {message['error']['message']}")
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def note(self, message: dict) -> None:
        event, params = message.get("method"), message.get("params", {})
        if event == "Page.loadEventFired":
            self.loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        """Load a page, or the one that it sends the reader on to as the book's first does, until its formulas are set."""
        self.errors, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url=url)
        while True:
            while not self.loaded:
                self.note(json.loads(self.socket.recv()))
            self.loaded = False
            try:
                self.ask(READY)
                return
            except Navigated:
                pass

    def ask(self, expression: str):
        """The value of a JavaScript expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key in whatever has the focus."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def width(self, pixels: int) -> None:
        """Show the page on a screen of that width."""
        self.call("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def paper(self, on: bool) -> None:
        """Show the page as it is printed on A4 with margins of 12 mm, which are 703 pixels; or on a screen again."""
        self.call("Emulation.setEmulatedMedia", media="print" if on else "screen")
        self.width(703 if on else 1280)

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
