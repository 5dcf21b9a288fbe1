"""An OpenAI-compatible server in this process that answers as a test says."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(content) -> tuple[int, dict, bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


@contextmanager
def server(answer):
    """(address, what was asked): `answer(request, how many times this request came before)` → status, headers, body.

    A request without a body, a GET, is its path.
    """
    asked: list[tuple[dict, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.do_POST()

        def do_POST(self):
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else self.path
            before = sum(one == body for one, _ in asked)
            asked.append((body, dict(self.headers), self.path))
            status, headers, raw = answer(body, before)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    class Served(list):
        def append(self, one):
            with lock:
                super().append(one)

        def __iter__(self):
            with lock:
                return iter([(body, headers) for body, headers, _ in list.__iter__(self)])

    lock = threading.Lock()
    asked = Served()
    here = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=here.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{here.server_port}/v1", asked
    finally:
        here.shutdown()
        here.server_close()
        thread.join()
