"""Requests to a server that may be slow, silent, wrong or malicious.

Every request has limits on time and size, goes to the server's own host only, and never shows its credentials. What
went wrong is told by the kind of `WebError`; who asked turns it into words for a facility manager.
"""

import builtins
import email.utils
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, TimeoutError  # noqa: A004

LARGEST = 200 * 2**20
"""Bytes that are read of one answer."""
LONGEST_PAUSE = 60.0
"""Seconds that a server may ask us to wait."""
MOST_REDIRECTS = 5
MOST_TRIES = 10

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class WebError(Exception):
    """A request came to nothing."""


class UnansweredError(WebError):
    """No usable answer for now: the request may or may not have been carried out."""


class UntrustedError(WebError):
    """The server's certificate is not trusted."""


class MisdirectedError(WebError):
    """The server sends us to another one, or in circles; the message is the address, if there is one."""


class TooLargeError(WebError):
    """The answer is larger than `LARGEST`."""


class PassingTroubleError(Exception):
    """A try that failed in a way that may pass; raised by whoever reads an answer to have the request repeated."""

    def __init__(self, reason: str, *, pause: float = 0.0, tries: int = MOST_TRIES) -> None:
        super().__init__(reason)
        self.pause = pause
        """Seconds that the server asked for."""
        self.tries = tries
        """Most further tries for this kind of trouble."""


class Patience(NamedTuple):
    """How long a server may take; all in seconds."""

    connect: float
    read: float
    """Until the next bytes."""
    total: float
    """Until the last byte of one answer."""
    pauses: tuple[float, ...]
    """Before each further try of a request."""


PATIENT = Patience(connect=5, read=30, total=120, pauses=(1, 2, 4, 8))
"""For a run, which has time."""
BRIEF = Patience(connect=5, read=10, total=20, pauses=(1,))
"""For a sensor, which is stopped after a minute and looks again anyway."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    content: bytes

    def json(self) -> Any:
        """The content as JSON.

        Raises
        ------
        ValueError
            When it is none.
        """
        try:
            return json.loads(self.content)
        except RecursionError:
            msg = "the answer is nested too deeply"
            raise ValueError(msg) from None

    def pause(self) -> float:
        """Seconds that the server asks us to wait, within reason; 0 when it does not ask."""
        return min(_retry_after(self.headers.get("Retry-After")), LONGEST_PAUSE)


class HeaderToken(AuthBase):
    """A secret in the header ``Authorization``, kept out of what is printed and safe from a ``.netrc``.

    Parameters
    ----------
    secret
        The token.
    scheme
        What stands before it, e.g. ``"Token "``.
    """

    def __init__(self, secret: SecretStr, scheme: str = "") -> None:
        self._secret = secret
        self._scheme = scheme

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        request.headers["Authorization"] = f"{self._scheme}{self._secret.get_secret_value()}"
        return request


class Web:
    """One server on the network; may be shared by threads.

    Parameters
    ----------
    name
        What the log calls it.
    auth
        Signs each request.
    verify
        Whether to check certificates, or the file with further authorities.
    patience
        How long the server may take.
    sleep
        Waits a number of seconds between two tries.
    """

    def __init__(
        self,
        name: str,
        *,
        auth: AuthBase | None = None,
        verify: bool | str = True,
        patience: Patience = PATIENT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._verify = verify
        self._patience = patience
        self._sleep = sleep
        self._session = requests.Session()
        self._session.auth = auth
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Punctual(lambda: self._patience.total))

    def ask(
        self,
        method: str,
        url: str,
        read: Callable[[Answer], Result],
        *,
        repeat: bool,
        before: Callable[[], object] = lambda: None,
        **payload: Any,
    ) -> Result:
        """Send a request and read its answer; again after a pause when that may help.

        Parameters
        ----------
        method, url
            What to ask.
        read
            Makes something of the answer; raises `PassingTroubleError` when asking again may help.
        repeat
            Whether the request may be sent twice. If not, the first trouble ends it.
        before
            Called before each try, to keep to a server's pace for example.
        payload
            ``params``, ``json``, ``data``, ``files``, ``headers`` as `requests` knows them.

        Raises
        ------
        UnansweredError
            When no try came to a usable answer; the message says why.
        UntrustedError, MisdirectedError, TooLargeError
            At once.
        """
        tries = 0
        while True:
            before()
            try:
                return self._try(method, url, read, payload)
            except PassingTroubleError as trouble:
                reason = str(trouble)
                most = min(trouble.tries, len(self._patience.pauses)) if repeat else 0
                if tries >= most or trouble.pause > self._patience.total:
                    break
                pause = max(self._patience.pauses[tries] * random.uniform(0.75, 1.25), trouble.pause)
            tries += 1
            _log.info("%s: %s; trying again in %.1f s", self._name, reason, pause)
            self._sleep(pause)
        raise UnansweredError(reason)

    def _try(self, method: str, url: str, read: Callable[[Answer], Result], payload: Mapping[str, Any]) -> Result:
        deadline = time.monotonic() + self._patience.total
        try:
            with self._open(method, url, payload) as response:
                answer = Answer(response.status_code, response.headers, self._content(response, deadline))
        except (requests.RequestException, HTTPError, ValueError) as error:
            reason, distrusted = _in_words(error), "CERTIFICATE_VERIFY_FAILED" in str(error)
        else:
            return read(answer)
        # Not within the handler: the error holds the request, and the request the credentials.
        if distrusted:
            raise UntrustedError
        raise PassingTroubleError(reason)

    def _open(self, method: str, url: str, payload: Mapping[str, Any]) -> requests.Response:
        """Send the request, following redirects on the same server only: the credentials go nowhere else."""
        for _ in range(MOST_REDIRECTS):
            response = self._session.request(
                method,
                url,
                verify=self._verify,
                timeout=(self._patience.connect, self._patience.read),
                stream=True,
                allow_redirects=False,
                **payload,
            )
            if not response.is_redirect:
                return response
            target = urljoin(url, response.headers["location"])
            response.close()
            if method != "GET" or not _same_server(url, target):
                raise MisdirectedError(_without_query(target))
            url = target
        raise MisdirectedError

    def _content(self, response: requests.Response, deadline: float) -> bytes:
        content = bytearray()
        while chunk := response.raw.read1(2**16, decode_content=True):
            content += chunk
            if len(content) > LARGEST:
                raise TooLargeError
            if time.monotonic() > deadline:
                raise PassingTroubleError(f"no whole answer within {self._patience.total:g} s")
        return bytes(content)


class _Punctual(HTTPAdapter):
    """Connections on which the head of an answer must come within some seconds, however fast its bytes drip in."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        schemes = (("http", HTTPConnectionPool, HTTPConnection), ("https", HTTPSConnectionPool, HTTPSConnection))
        self.poolmanager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": _punctual(connection, seconds)})
            for scheme, pool, connection in schemes
        }


def _punctual(kind: Any, seconds: Callable[[], float]) -> Any:
    """A kind of connection that is cut when no head of an answer comes in time."""

    class Punctual(kind):  # type: ignore[misc]
        def getresponse(self) -> Any:
            is_late = threading.Event()
            timer = threading.Timer(seconds(), _cut, [self.sock, is_late])
            timer.daemon = True
            timer.start()
            try:
                response = super().getresponse()
            finally:
                timer.cancel()
            if is_late.is_set():  # what came of the head would pass for an answer
                raise builtins.TimeoutError
            return response

    return Punctual


def _cut(connection: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    with suppress(OSError):  # it ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _same_server(url: str, target: str) -> bool:
    """Whether `target` is the server of `url`, or the same one over TLS."""
    here, there = urlsplit(url), urlsplit(target)
    if (here.scheme, here.netloc) == (there.scheme, there.netloc):
        return True
    return (here.scheme, there.scheme) == ("http", "https") and here.netloc == there.netloc


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _retry_after(value: str | None) -> float:
    """Seconds that a server asks us to wait: a number, or the date until which (RFC 9110, 10.2.3)."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _in_words(error: Exception) -> str:
    match error:
        case requests.exceptions.ConnectTimeout():
            return "no connection in time"
        case requests.exceptions.Timeout() | TimeoutError():
            return "no answer in time"
        case requests.exceptions.ConnectionError():
            return "no connection"
        case _:
            return f"the connection broke ({type(error).__name__})"
