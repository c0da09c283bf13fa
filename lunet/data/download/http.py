"""HTTP connections that do not trust the server: safe redirections, deadlines, waiting times."""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

LONGEST_WAIT = 3600.0
"""Longest `Retry-After` in seconds that is obeyed; a server that asks for more is given up."""


class Refused(Exception):
    """The server will never give this file; another address may."""


class TooSlow(TimeoutError):
    """The server sends too slowly for the file ever to arrive."""


def open_url(request: urllib.request.Request, timeout: float) -> Any:
    """Send a request; returns the response, whose headers must arrive within ``timeout`` seconds.

    Redirections are followed to ``http`` and ``https`` only, and never from ``https`` to ``http``.

    Raises
    ------
    Refused
        If a redirection leads elsewhere.
    OSError
        If the connection fails, or the status is not 2xx (:class:`urllib.error.HTTPError`).
    """
    handlers = (_Redirections(), _Plain(), _Secure(context=ssl.create_default_context()))
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https"):
            raise Refused(f"it redirects to {after}://, only http and https are followed")
        if before == "https" and after == "http":
            raise Refused("it redirects from https to http, where anybody could change the file")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _WithDeadline(http.client.HTTPConnection):
    """A connection with a deadline for the response headers, which a server may never complete."""

    _was_cut = False

    def getresponse(self) -> http.client.HTTPResponse:
        seconds = float(self.timeout or LONGEST_WAIT)
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        late = TimeoutError(f"timed out: no complete answer within {seconds:g} s")
        try:
            response = super().getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._was_cut:
                raise
            raise late from error
        finally:
            timer.cancel()
        if self._was_cut:  # headers that were cut off look complete
            raise late
        return response

    def _cut(self) -> None:
        self._was_cut = True
        with contextlib.suppress(OSError):  # it has just been closed
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


class _SecureWithDeadline(_WithDeadline, http.client.HTTPSConnection):
    pass


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_WithDeadline, req)


class _Secure(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = self._context  # type: ignore[attr-defined]
        return self.do_open(_SecureWithDeadline, req, context=context)


def is_hopeless(error: Exception) -> bool:
    """Whether trying again cannot help: no such host, a bad certificate, an impossible address."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return reason.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5))
    return isinstance(reason, ssl.SSLCertVerificationError | http.client.InvalidURL | UnicodeError)


def wait_of(headers: email.message.Message) -> float | None:
    """Seconds that `Retry-After` asks to wait: a number, or the time until a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
