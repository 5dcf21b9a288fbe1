"""A headless Chromium over its DevTools protocol: open a file, run JavaScript, press things, take pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


class Browser:
    """Use as a context manager; `errors` collects exceptions, console errors and refused loads."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.size, self.errors, self.requests = (width, height), [], []
        self.answers: dict[int, asyncio.Future] = {}
        self.number = 0

    def __enter__(self) -> Browser:
        self.folder = tempfile.mkdtemp(prefix="remem-browser-")
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        options += [f"--user-data-dir={self.folder}", "--remote-debugging-port=0", "--hide-scrollbars"]
        options += ["--force-prefers-reduced-motion", "--disable-background-networking"]
        self.process = subprocess.Popen(
            [CHROMIUM, *options, "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for line in self.process.stderr:
            if found := re.search(r"ws://[^/]+", line):
                self.address = found.group().replace("ws://", "http://")
                break
        else:
            raise RuntimeError("the browser did not start")
        self.loop = asyncio.new_event_loop()
        self._wait(self._connect())
        return self

    def __exit__(self, *_) -> None:
        self.reader.cancel()
        self._wait(self.session.close())
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self, awaitable, seconds: float = 60):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, seconds))

    async def _connect(self) -> None:
        import aiohttp

        self.session = aiohttp.ClientSession()
        async with self.session.get(self.address + "/json/list") as reply:
            page = next(one for one in await reply.json(content_type=None) if one["type"] == "page")
        self.socket = await self.session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self.reader = self.loop.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._send(f"{domain}.enable")

    async def _read(self) -> None:
        async for message in self.socket:
            said = json.loads(message.data)
            if "id" in said:
                self.answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                details = said["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.errors.append(said["params"]["entry"]["text"])
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])

    async def _send(self, method: str, **parameters) -> dict:
        self.number += 1
        answer = self.answers[self.number] = self.loop.create_future()
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        said = await answer
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]

    def send(self, method: str, **parameters) -> dict:
        return self._wait(self._send(method, **parameters))

    def screen(self, width: int, height: int, phone: bool = False, dark: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path, address: str = "") -> None:
        """Open a file and wait until the page says that it is drawn."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=Path(file).resolve().as_uri() + address)
        self.until("document.documentElement?.dataset.ready === '1'")

    def run(self, script: str):
        """The value of a JavaScript expression; promises are waited for."""
        said = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in said:
            details = said["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description") or details["text"])
        return said["result"].get("value")

    def until(self, condition: str, seconds: float = 20) -> None:
        limit = self.loop.time() + seconds
        while not self.run(f"Boolean({condition})"):
            if self.loop.time() > limit:
                raise AssertionError(f"not within {seconds} s: {condition}; errors: {self.errors}")
            self._wait(asyncio.sleep(0.02))

    def picture(self, file: Path | str, whole: bool = False, box: dict | None = None) -> None:
        """What is on the screen; the whole page; or a box of it (x, y, width, height)."""
        options = {}
        if whole or box:
            box = box or self.send("Page.getLayoutMetrics")["cssContentSize"]
            options = {"captureBeyondViewport": True, "clip": {**box, "scale": 1}}
        data = self.send("Page.captureScreenshot", format="png", **options)["data"]
        Path(file).write_bytes(base64.b64decode(data))
