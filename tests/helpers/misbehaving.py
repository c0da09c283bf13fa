"""A local HTTP server that fails on purpose, as real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does.

    ``statuses`` answer the first requests, ``cuts`` end the body of the next ones after so many
    bytes; then it behaves. ``lie`` is added to the announced length; ``swap`` replaces content and
    tag after the first request, and with ``heeds_if_range`` a resuming client gets all of it;
    ``stall`` seconds pass in mid-body, once. ``redirect`` leads there, ``retry_after`` comes with
    the statuses, ``dribble`` seconds pass between the endless lines of the first answer's head.
    """

    content: bytes
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    heeds_if_range: bool = True
    tag: str | None = '"v1"'
    lie: int = 0
    stall: float = 0.0
    pace: float = 0.0
    swap: bytes | None = None
    announce: bool = True
    redirect: str = ""
    retry_after: str = ""
    dribble: float = 0.0
    seen: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        plan = self.behaviour
        plan.seen.append({key.lower(): value for key, value in self.headers.items()})
        if plan.dribble and len(plan.seen) == 1:
            self._dribble(plan.dribble)
            return
        if plan.redirect or plan.statuses:
            self.send_response(302 if plan.redirect else plan.statuses.pop(0))
            for name, value in (("Location", plan.redirect), ("Retry-After", plan.retry_after)):
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if plan.swap is not None and len(plan.seen) > 1:
            plan.content, plan.tag = plan.swap, '"v2"'
        start = self._start(plan)
        if start > 0 and start >= len(plan.content):
            self.send_error(416)
            return
        self._head(plan, start)
        self._body(plan, plan.content[max(start, 0) :])

    def _dribble(self, seconds: float) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        for _ in range(200):
            time.sleep(seconds)
            self.wfile.write(b"x")
            self.wfile.flush()

    def _start(self, plan: Behaviour) -> int:
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        is_other = plan.heeds_if_range and condition and condition != plan.tag
        if wanted is None or not plan.ranges or is_other:
            return -1
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _head(self, plan: Behaviour, start: int) -> None:
        size = len(plan.content)
        self.send_response(206 if start >= 0 else 200)
        if start >= 0:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if plan.tag:
            self.send_header("ETag", plan.tag)
        if plan.announce:
            self.send_header("Content-Length", str(size - max(start, 0) + plan.lie))
        self.end_headers()

    def _body(self, plan: Behaviour, body: bytes) -> None:
        if plan.cuts:
            body = body[: plan.cuts.pop(0)]
        step = max(1, len(body) // 8)
        for place in range(0, len(body), step):
            if plan.stall and place:
                pause, plan.stall = plan.stall, 0.0
                time.sleep(pause)
            time.sleep(plan.pace)
            self.wfile.write(body[place : place + step])
            plan.sent += len(body[place : place + step])


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[str]:
    """Run the server in a thread; yields the address of its file."""
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/set.tar"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
