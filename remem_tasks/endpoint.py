"""An OpenAI-compatible endpoint: one request, asked again where asking again may help."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from remem_tasks.errors import RememError

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may be answered."""
OF_THE_ROW = frozenset({400, 413, 422})
"""Statuses that say that this request cannot be answered: others may be."""
LONGEST_WAIT = 60.0
"""Seconds between two tries at most, whatever the endpoint asks for."""
LARGEST = 2**20
"""Bytes of a reply that are read."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would carry the key to another address, and turn the request into another."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_Stay)


class NotAnswered(RememError):
    """One request had no answer that could be used; the others go on."""


@dataclass(frozen=True)
class Endpoint:
    """Where a judge, or a model that is scored, is asked.

    Attributes:
        url: the base (`http://localhost:8000/v1`), or the whole address of its chat completions.
        model: as the endpoint calls it.
        key: sent as a bearer token, if there is one; never written anywhere.
        timeout: seconds of one try.
        retries: further tries after one that failed.
        wait: seconds before the first of them; each further one waits twice as long.
        largest: bytes of a reply that are read.
        sleep: what waits.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 4
    wait: float = 1.0
    largest: int = LARGEST
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise RememError(f"--endpoint '{self.url}' is no address of the form http://HOST/v1")
        if not self.model.strip():
            raise RememError("--model: the endpoint's name of a model is needed")
        for name, value, least in (("timeout", self.timeout, 0.001), ("wait", self.wait, 0.0)):
            if not math.isfinite(value) or value < least:
                raise RememError(f"--{name} {value} is out of range: at least {least:g} seconds")
        if self.retries < 0:
            raise RememError(f"--retries {self.retries} is out of range: at least 0")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise RememError("the key holds characters that no header can")

    @property
    def address(self) -> str:
        """Of the chat completions."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"

    def body(self, messages: Sequence[Mapping[str, str]], most_tokens: int) -> dict[str, Any]:
        """The request, without what says who asks."""
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": most_tokens,
        }

    def ask(
        self, messages: Sequence[Mapping[str, str]], read: Callable[[str], Any], most_tokens: int = 256
    ) -> tuple[Any, int]:
        """(what `read` makes of the reply, tries); as `post`, with the text of the first choice."""
        return self.post(self.body(messages, most_tokens), lambda body: read(_content(body)))

    def post(self, body: Mapping[str, Any], read: Callable[[Any], Any]) -> tuple[Any, int]:
        """(what `read` makes of what the chat completions answer to a body, tries).

        Args:
            read: takes the answer, as JSON gives it; raises a ValueError that says what is wrong with one that
                cannot be used.

        Raises:
            NotAnswered: no try gave a usable answer; it says how the last one failed.
            RememError: the endpoint refuses every request: the address, the model or the key is wrong.
        """
        return self._tried(self.address, json.dumps(body).encode(), read)

    def get(self, path: str, read: Callable[[Any], Any]) -> tuple[Any, Mapping[str, str]]:
        """(what `read` makes of what the server answers to a path beside the chat completions, the answer's headers).

        Args:
            path: such as `/models`, behind the base; or `/../health`, behind what the base begins with.

        Raises:
            NotAnswered, RememError: as `post`.
        """
        base = self.address.removesuffix("/chat/completions")
        headers: dict[str, str] = {}
        while path.startswith("/.."):
            base, path = base.rpartition("/")[0], path.removeprefix("/..")
        found, _ = self._tried(base + path, None, read, headers)
        return found, headers

    def _tried(
        self,
        address: str,
        body: bytes | None,
        read: Callable[[Any], Any],
        headers: dict[str, str] | None = None,
    ) -> tuple[Any, int]:
        why = ""
        for attempt in range(self.retries + 1):
            wanted = self.wait * 2**attempt
            try:
                return read(self._once(address, body, headers)), attempt + 1
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}"
                if error.code in OF_THE_ROW:
                    raise NotAnswered(f"{why}: {self._said(error)}") from error
                if error.code not in AGAIN:
                    raise RememError(f"'{address}' answers {why}: {self._said(error)}") from error
                wanted = max(wanted, _asked_to_wait(error))
            except TimeoutError:
                why = f"no reply within {self.timeout:g} s"
            except urllib.error.URLError as error:
                late = isinstance(error.reason, TimeoutError)
                why = f"no reply within {self.timeout:g} s" if late else f"no connection ({error.reason})"
            except ValueError as error:
                why = f"malformed: {error}"
            except (OSError, http.client.HTTPException) as error:  # a connection that ends within a reply
                why = f"no connection ({error})"
            if attempt < self.retries:
                self.sleep(min(wanted, LONGEST_WAIT))
        raise NotAnswered(why)

    def _once(self, address: str, body: bytes | None, seen: dict[str, str] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        method = "GET" if body is None else "POST"
        request = urllib.request.Request(address, data=body, headers=headers, method=method)
        with OPENER.open(request, timeout=self.timeout) as response:
            if seen is not None:
                seen.update(response.headers.items())
            raw = response.read(self.largest)
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body is no JSON") from error

    def _said(self, error: urllib.error.HTTPError) -> str:
        """What the endpoint says of a refusal, short, on one line and without the key."""
        try:
            text = error.read(2000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        if self.key:
            text = text.replace(self.key, "***")
        return " ".join(text.split())[:200] or str(error.reason)


def _content(body: Any) -> str:
    """The text of the first choice. Raises a ValueError for a body that has none."""
    try:
        content = body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("the body is no chat completion") from error
    if not isinstance(content, str):
        raise ValueError("its content is no text")
    return content


def _asked_to_wait(error: urllib.error.HTTPError) -> float:
    """Seconds of a Retry-After header; 0 without one that is a number."""
    try:
        seconds = float(error.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
