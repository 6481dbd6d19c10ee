"""A destination's server: requests whose failures are told as those of a destination."""

import time
from collections.abc import Callable, Collection
from typing import Any

from pydantic import SecretStr
from requests.auth import AuthBase

from resources.destinations.base import DestinationRefusedError, DestinationUnavailableError
from resources.web import (
    LARGEST,
    Answer,
    MisdirectedError,
    PassingTroubleError,
    Patience,
    TooLargeError,
    UntrustedError,
    Web,
    WebError,
)

PATIENCE = Patience(connect=5, read=60, total=180, pauses=(1,))
"""A large record takes a server seconds to check; one that stays away is asked again by a later run."""
PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""Status codes that may pass. 500 is not among them: servers answer so to records that they cannot accept."""
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "PATCH"})
"""Methods that do no more when sent twice; a POST is never sent twice."""
LONGEST_REASON = 500
"""Characters of the server's reason that are shown."""


class Server:
    """One server, with the words for what may go wrong with it.

    Parameters
    ----------
    whom
        The server in a sentence, e.g. ``CDCS at https://cdcs.example.org/``.
    address
        Root of its addresses, with a slash at the end.
    settings
        The variables to look at, by what they hold: ``{"address": "NX_CDCS_URL", "token": "NX_CDCS_TOKEN"}``.
    auth
        Signs each request.
    secrets
        Texts that no message may show.
    verify, patience, sleep
        As for `resources.web.Web`.
    before
        Called before each request, e.g. to keep to the server's pace.
    """

    def __init__(
        self,
        whom: str,
        address: str,
        *,
        settings: dict[str, str],
        auth: AuthBase | None = None,
        secrets: Collection[SecretStr] = (),
        verify: bool | str = True,
        patience: Patience = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.whom = whom
        self._address = address.rstrip("/") + "/"
        self._settings = settings
        self._secrets = tuple(secrets)
        self._before = before
        self._web = Web(whom, auth=auth, verify=verify, patience=patience, sleep=sleep)

    def call(
        self, method: str, path: str, *, expect: Collection[int] = (200,), repeat: bool | None = None, **payload: Any
    ) -> Answer:
        """Send a request; the answer has one of the expected status codes.

        Parameters
        ----------
        method, path
            What to ask, below the server's address.
        expect
            Status codes that are an answer; any other is trouble or a refusal.
        repeat
            Whether it may be sent twice; by default as `REPEATABLE` says of the method.
        payload
            ``params``, ``json``, ``data``, ``files``, ``headers`` as `requests` knows them.

        Raises
        ------
        DestinationUnavailableError
            When there is no answer, or one that says "later"; what was asked may have been done.
        DestinationRefusedError
            When the server refuses.
        """

        def read(answer: Answer) -> Answer:
            if self.is_passing(answer):
                raise PassingTroubleError(f"it answers with status {answer.status}", pause=answer.pause())
            if answer.status not in expect:
                raise DestinationRefusedError(self._refusal(method, path, answer))
            return answer

        may_repeat = method in REPEATABLE if repeat is None else repeat
        try:
            return self._web.ask(method, self._address + path, read, repeat=may_repeat, before=self._before, **payload)
        except WebError as error:
            fault = self._in_words(error)
        raise fault  # outside the handler: the cause may hold the request, and the request the credentials

    def is_passing(self, answer: Answer) -> bool:
        """Whether an answer says that trying again later may help."""
        return answer.status in PASSING

    def reason(self, answer: Answer) -> str:
        """The server's own reason for a refusal; by default the beginning of its answer."""
        return answer.content[: 4 * LONGEST_REASON].decode("utf-8", "replace")

    def json(self, answer: Answer) -> Any:
        """The JSON of an answer.

        Raises
        ------
        DestinationUnavailableError
            When it is none: a proxy's page, or cut off.
        """
        try:
            return answer.json()
        except ValueError:
            raise DestinationUnavailableError(f"{self.whom} sends an answer that is cut off or no JSON.") from None

    def _refusal(self, method: str, path: str, answer: Answer) -> str:
        match answer.status:
            case 401 if "token" in self._settings:
                return f"{self.whom} does not accept the token; make a new one and set {self._settings['token']}."
            case 404 if not answer.content.strip():
                return f"{self.whom} knows no {path}; correct {self._settings['address']}."
        said = self.hide(" ".join(self.reason(answer).split()))[:LONGEST_REASON]
        return f"{self.whom} refuses {method} {path} with status {answer.status}: {said or 'it gives no reason'}"

    def hide(self, text: str) -> str:
        """`text` without secrets."""
        for secret in self._secrets:
            if value := secret.get_secret_value():
                text = text.replace(value, "…")
        return text

    def _in_words(self, error: WebError) -> DestinationRefusedError | DestinationUnavailableError:
        match error:
            case UntrustedError():
                return DestinationRefusedError(
                    f"The certificate of {self.whom} is not trusted; put that of its authority into "
                    "NX_CERT_BUNDLE_FILE."
                )
            case MisdirectedError():
                return DestinationRefusedError(
                    f"{self.whom} sends us on to {error or 'itself'}; correct {self._settings['address']} (https? "
                    "another host? a login page?)."
                )
            case TooLargeError():
                return DestinationRefusedError(f"{self.whom} sends more than {LARGEST >> 20} MiB.")
        return DestinationUnavailableError(f"{self.whom} does not answer: {error}.")
