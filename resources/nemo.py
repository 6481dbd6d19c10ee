"""NEMO: usage events, reservations and the people behind them, read-only.

`HttpNemo` asks a server, `FolderNemo` a folder of its saved answers. Both are asked in one language: an
endpoint and filters in the style of NEMO's API (``start__gte``, ``tool_id__in`` ...). NEMO ignores a filter
that it does not know and answers with everything, so that every filter is applied here once more.
"""

import json
import logging
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlencode, urljoin, urlsplit
from zoneinfo import ZoneInfo

from dagster import ConfigurableResource
from pydantic import SecretStr

from nexuslims_pipeline.configuration import settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.sessions.server_config import NemoServerConfig
from nexuslims_pipeline.sessions.times import ServerClock
from nexuslims_pipeline.sessions.usage import (
    NemoProject,
    NemoUser,
    Row,
    UsageEvent,
    UsageEventError,
    consent_only,
    row_id,
    storable,
    trimmed,
)
from resources.web import (
    LARGEST,
    MOST_TRIES,
    PATIENT,
    Answer,
    HeaderToken,
    MisdirectedError,
    PassingTroubleError,
    Patience,
    TooLargeError,
    UntrustedError,
    Web,
    WebError,
)

Filter: TypeAlias = datetime | int | bool | Collection[int]

MOST_PAGES = 1000
PASSING = frozenset({429, 500, 502, 503, 504})
"""Status codes that may pass."""
TRIES_AFTER_500 = 2
"""An internal error is more often a fault of NEMO than of the moment."""
ENDPOINTS = {
    "usage_events": "usage event",
    "reservations": "reservation",
    "users": "user",
    "projects": "project",
    "tools": "tool",
}
"""What is asked of NEMO, with the name of the right that it needs."""

_log = logging.getLogger(__name__)


class NemoError(Exception):
    """NEMO did not answer as it should; the message is for a facility manager."""


class NemoUnavailableError(NemoError):
    """NEMO is out of reach for now: trying again later may help."""


class NemoRefusedError(NemoError):
    """NEMO refuses: somebody has to mend something first."""


class Surroundings(NamedTuple):
    """What overlaps a usage event."""

    reservations: tuple[Row, ...]
    """Reservations of its tool that overlap it, withdrawn ones too."""
    neighbours: tuple[Row, ...]
    """Other usage events of its tool that overlap it; of their answers, only the one about consent."""
    neighbour_reservations: tuple[Row, ...]
    """Further reservations of the tool, which overlap a neighbour only; of their answers, the one about consent."""


class NemoServer(ABC):
    """Questions that the pipeline has for a NEMO server."""

    def __init__(self, config: NemoServerConfig) -> None:
        self.name = config.name
        self.web_address = config.web_address
        self.time_zone = config.time_zone
        self.clock = ServerClock(config.time_zone, config.strptime_format)

    @abstractmethod
    def _fetch(self, endpoint: str, filters: Mapping[str, Filter]) -> Iterable[Any]:
        """Rows of an endpoint; at least those that pass the filters."""

    def _ask(self, endpoint: str, **filters: Filter) -> list[Row]:
        """Rows of an endpoint that pass the filters, each once, in the server's order.

        A time that cannot be read passes: whoever uses the row says so.
        """
        rows: dict[int, Row] = {}
        for row in self._fetch(endpoint, filters):
            number = row_id(row.get("id")) if isinstance(row, dict) else None
            if number is None:
                _log.warning("%s: an entry of %s without a number is left out", self.name, endpoint)
            elif all(_passes(row, name, wanted, self.clock) for name, wanted in filters.items()):
                rows[number] = storable(row)
        return list(rows.values())

    def usage_events(self, *, since: datetime | None, until: datetime | None, tools: Collection[int]) -> list[Row]:
        """Usage events of `tools` that touch [since, until], running ones included, sorted by number.

        An event that began long before `since` belongs to them when it was not over by then. Tools that NEMO
        does not know and events without usable times are left out, and the log says so.

        Raises
        ------
        NemoError
            If the server does not answer as it should.
        """
        return self._with_times("usage event", self._touching(since, until, self._known(tools)))

    def _touching(self, since: datetime | None, until: datetime | None, known: Collection[int]) -> list[Row]:
        if not known:
            return []
        filters: dict[str, Filter] = {"tool_id__in": known}
        if until is not None:
            filters["start__lte"] = until
        if since is None:
            return _by_number(self._ask("usage_events", **filters))
        # Running events have no end and fail any comparison with it. They come first: one that ends meanwhile
        # is found twice, not never.
        running = self._ask("usage_events", **filters, end__isnull=True)
        finished = self._ask("usage_events", **filters, end__gte=since)
        return _by_number([*running, *finished])

    def usage_event(self, event_id: int) -> Row | None:
        """One usage event; None when it was deleted in NEMO.

        It is asked for as a list: there, a missing event is an empty answer and no wrong address is taken for
        one.
        """
        return next(iter(self._ask("usage_events", id=event_id)), None)

    def _bookings(self, start: datetime, end: datetime, known: Collection[int]) -> list[Row]:
        """Reservations of tools that overlap (start, end), however long they are, sorted by number."""
        rows = self._ask("reservations", tool_id__in=known, start__lt=end, end__gt=start)
        return self._with_times("reservation", _by_number(rows))

    def surroundings(self, events: Sequence[Row]) -> list[Surroundings]:
        """What overlaps each of some finished events, in few requests; in their order.

        Raises
        ------
        UsageEventError
            If an event is still running, or its times are malformed.
        NemoError
            If the server does not answer as it should.
        """
        if not events:
            return []
        windows = [self._window(event) for event in events]
        start, end = min(s for s, _ in windows), max(e for _, e in windows)
        tools = _numbers(events, "tool")
        others = self._touching(start, end, tools)
        begins, ends = zip(*(self._window_or(row, start, end) for row in (*events, *others)), strict=True)
        bookings = self._bookings(min(begins), max(ends), tools)
        return [self._around(event, others, bookings) for event in events]

    def _around(self, event: Row, others: Iterable[Row], bookings: Iterable[Row]) -> Surroundings:
        start, end = self._window(event)
        neighbours = [row for row in self._overlapping(others, event, start, end) if row["id"] != event["id"]]
        own = self._overlapping(bookings, event, start, end)
        theirs = [
            row
            for neighbour in neighbours
            for row in self._overlapping(bookings, event, *self._window_or(neighbour, start, end))
            if row not in own
        ]
        return Surroundings(
            tuple(own), tuple(map(consent_only, neighbours)), tuple(map(consent_only, _by_number(theirs)))
        )

    def _overlapping(self, rows: Iterable[Row], event: Row, start: datetime, end: datetime) -> list[Row]:
        """Those of `rows` on the event's tool that overlap (start, end)."""
        tool = row_id(event.get("tool"))
        return [row for row in rows if row_id(row.get("tool")) == tool and self.overlaps(row, start, end)]

    def collect(self, event_id: int) -> UsageEvent:
        """Everything about a finished usage event that is needed to make a session.

        Raises
        ------
        UsageEventError
            If the event was deleted, is still running, or its times are malformed.
        NemoError
            If the server does not answer as it should.
        """
        event = self.usage_event(event_id)
        if event is None:
            msg = f"Usage event {event_id} does not exist on NEMO server '{self.name}' any more."
            raise UsageEventError(msg)
        (around,) = self.surroundings([event])
        own = around.reservations
        return UsageEvent(
            server=self.name,
            time_zone=self.clock.time_zone,
            strptime_format=self.clock.strptime_format,
            event=event,
            reservations=own,
            neighbours=around.neighbours,
            neighbour_reservations=around.neighbour_reservations,
            users=trimmed(self._named("users", _numbers([event, *own], "user", "operator")), NemoUser),
            projects=trimmed(self._named("projects", _numbers([event, *own], "project")), NemoProject),
        )

    def check(self, tools: Collection[int] = ()) -> list[str]:
        """Find what is wrong with the server, in sentences that say the mend; empty when all is well.

        Parameters
        ----------
        tools
            Numbers of the tools that instruments are bound to.
        """
        problems: list[str] = []
        for endpoint in ENDPOINTS:
            try:
                self._ask(endpoint, id__in=sorted(tools) if endpoint == "tools" and tools else [1])
            except NemoError as error:
                problems.append(str(error))
                if isinstance(error, NemoUnavailableError):
                    break
        if problems:
            return list(dict.fromkeys(problems))
        known = self._known(tools)
        problems = [
            f"NEMO server '{self.name}' has no tool {tool}; correct instruments.yaml."
            for tool in sorted(set(tools) - set(known))
        ]
        try:
            recent = self._touching(datetime.now(UTC) - timedelta(days=7), None, known)
        except NemoError as error:
            return [*problems, str(error)]
        return problems + [doubt for row in recent[-1:] if (doubt := self._doubt_about_times(row))]

    def _doubt_about_times(self, row: Row) -> str | None:
        try:
            self.clock.parse(row.get("start"))
        except ValueError as error:
            return (
                f"NEMO server '{self.name}' writes times in a form that is not understood ({error}); "
                "set NX_NEMO_STRPTIME_FMT_n to its format."
            )
        if self.clock.time_zone is None and self.clock.is_naive(row["start"]):
            return (
                f"NEMO server '{self.name}' writes times without a time zone; set NX_NEMO_TZ_n to its "
                "zone (the zone of this machine is used until then)."
            )
        return None

    def _known(self, tools: Collection[int]) -> list[int]:
        """Those of `tools` that exist: NEMO refuses a whole question for the sake of one that does not."""
        if not tools:
            return []
        known = {row["id"] for row in self._named("tools", tools)}
        if missing := sorted(set(tools) - known):
            _log.warning("NEMO server '%s' has no tool %s (retired?)", self.name, ", ".join(map(str, missing)))
        return sorted(known)

    def _named(self, endpoint: str, numbers: Collection[int]) -> list[Row]:
        return self._ask(endpoint, id__in=sorted(numbers)) if numbers else []

    def _with_times(self, what: str, rows: Iterable[Row]) -> list[Row]:
        usable = []
        for row in rows:
            try:
                self.clock.window(row)
            except ValueError as error:
                _log.warning("NEMO server '%s': %s %s is left out: %s", self.name, what, row["id"], error)
            else:
                usable.append(row)
        return usable

    def _window(self, event: Row) -> tuple[datetime, datetime]:
        try:
            start, end = self.clock.window(event)
        except ValueError as error:
            msg = f"Usage event {event['id']} has no usable times: {error}. Correct it in NEMO."
            raise UsageEventError(msg) from error
        if end is None:
            msg = f"Usage event {event['id']} is still running; a session is made when it ends."
            raise UsageEventError(msg)
        return start, end

    def overlaps(self, row: Row, start: datetime, end: datetime) -> bool:
        """Whether a usage event or reservation overlaps (start, end); one with malformed times may."""
        begins, ends = self._window_or(row, start, end)
        return begins < end and start < ends

    def _window_or(self, row: Row, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Window of a row as far as it matters to (start, end), which it is when the row's is malformed."""
        try:
            begins, ends = self.clock.window(row)
        except ValueError:
            return start, end
        return begins, ends or max(begins, end)


class FolderNemo(NemoServer):
    """Saved answers of a NEMO server: ``usage_events.json``, ``reservations.json``, ``users.json`` and so on.

    Each file is what the endpoint of that name answers: a list, or one page.
    """

    def __init__(self, config: NemoServerConfig) -> None:
        super().__init__(config)
        self._folder = Path(unquote(urlsplit(config.address).path))

    def _fetch(self, endpoint: str, filters: Mapping[str, Filter]) -> list[Any]:  # noqa: ARG002
        path = self._folder / f"{endpoint}.json"
        try:
            with path.open("rb") as file:
                rows, _ = _page(json.loads(file.read(LARGEST)))
        except (OSError, ValueError, RecursionError) as error:
            msg = f"NEMO answers of '{self.name}' cannot be read from {path}: {error}"
            raise NemoRefusedError(msg) from error
        return rows


class HttpNemo(NemoServer):
    """A NEMO server on the network.

    Parameters
    ----------
    config
        Address, token and times of the server.
    verify
        Whether to check certificates, or the file with further authorities.
    patience
        How long the server may take.
    sleep
        Waits a number of seconds between two tries.
    """

    def __init__(
        self,
        config: NemoServerConfig,
        *,
        verify: bool | str = True,
        patience: Patience = PATIENT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(config)
        self._address = config.address
        self._strftime_format = config.strftime_format
        self._token = config.token or SecretStr("-")
        self._web = Web(
            f"NEMO server '{self.name}'",
            auth=HeaderToken(self._token, "Token "),
            verify=verify,
            patience=patience,
            sleep=sleep,
        )

    def __repr__(self) -> str:
        return f"HttpNemo({self.name!r}, {self._address!r})"

    def _fetch(self, endpoint: str, filters: Mapping[str, Filter]) -> Iterable[Any]:
        # Commas stand as they are: some versions of NEMO do not take %2C for one.
        query = urlencode({name: self._as_text(name, value) for name, value in filters.items()}, safe=",")
        seen: set[str] = set()
        rows: list[Any] = []
        while query not in seen and len(seen) < MOST_PAGES:
            seen.add(query)
            page, following = self._get(endpoint, query)
            rows += page
            if following is None:
                return rows
            # Behind a proxy, `next` may name a host that only the proxy knows; no other host gets the token.
            query = following.partition("#")[0].partition("?")[2]
        msg = f"NEMO server '{self.name}' sends endless pages of {endpoint}; report this to its administrator."
        raise NemoRefusedError(msg)

    def _as_text(self, name: str, value: Filter) -> str:
        match value:
            case bool():
                return "true" if value else "false"
            case int():
                return str(value)
            case datetime():
                return self._time_as_text(value, lower=name.endswith(("__gte", "__gt")))
            case _:
                return ",".join(map(str, value))

    def _time_as_text(self, moment: datetime, *, lower: bool) -> str:
        """Write a bound for the server; in a format of its own, which may be coarse, a day further out.

        NEMO refuses a local time that the change of the clock makes ambiguous, hence the steps beyond it.
        """
        if self._strftime_format is None:
            return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        zone = ZoneInfo(self.time_zone) if self.time_zone else None
        step = timedelta(hours=-3 if lower else 3)
        local = (moment + 8 * step).astimezone(zone)
        while local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
            local = (local.astimezone(UTC) + step).astimezone(zone)
        return local.strftime(self._strftime_format)

    def _get(self, endpoint: str, query: str) -> tuple[list[Any], str | None]:
        url = urljoin(self._address, f"{endpoint}/") + (f"?{query}" if query else "")
        try:
            return self._web.ask("GET", url, partial(self._understood, endpoint), repeat=True)
        except WebError as error:
            raise self._in_words(error) from None  # the cause may hold the request, and the request the token

    def _in_words(self, error: WebError) -> NemoError:
        whom = f"NEMO server '{self.name}'"
        match error:
            case UntrustedError():
                return NemoRefusedError(
                    f"The certificate of {whom} is not trusted; put that of its authority into NX_CERT_BUNDLE_FILE."
                )
            case MisdirectedError() if str(error):
                return NemoRefusedError(
                    f"{whom} sends us on to {error}, another server or a login page; correct NX_NEMO_ADDRESS_n or the "
                    "server's redirect."
                )
            case MisdirectedError():
                return NemoRefusedError(f"{whom} redirects in circles; correct NX_NEMO_ADDRESS_n.")
            case TooLargeError():
                return NemoRefusedError(f"{whom} sends more than {LARGEST >> 20} MiB; ask for a shorter time.")
        return NemoUnavailableError(
            f"{whom} ({self._address}) does not answer: {error}. The pipeline tries again by itself; if this goes on, "
            "see whether NEMO runs and the address is right."
        )

    def _understood(self, endpoint: str, answer: Answer) -> tuple[list[Any], str | None]:
        if answer.status in PASSING:
            tries = TRIES_AFTER_500 if answer.status == 500 else MOST_TRIES
            raise PassingTroubleError(f"it answers with status {answer.status}", pause=answer.pause(), tries=tries)
        if answer.status != 200:
            raise NemoRefusedError(self._refusal(endpoint, answer.status, answer.content))
        try:
            return _page(answer.json())
        except ValueError:
            raise PassingTroubleError("its answer is cut off or no JSON") from None

    def _refusal(self, endpoint: str, status: int, content: bytes) -> str:
        whom = f"NEMO server '{self.name}'"
        right = f"NEMO | {ENDPOINTS[endpoint]} | Can view {ENDPOINTS[endpoint]}"
        match status:
            case 401:
                return f"{whom} does not accept the token; make a new one and set NX_NEMO_TOKEN_n."
            case 403:
                return f"{whom} does not let us read {endpoint}; give the token's user the right '{right}'."
            case 404:
                return f"{whom} has no API at {self._address}{endpoint}/; correct NX_NEMO_ADDRESS_n."
            case _:
                said = content[:300].decode("utf-8", "replace").replace(self._token.get_secret_value(), "…")
                return f"{whom} refuses the question for {endpoint} with status {status}: {said}"


class NemoResource(ConfigurableResource[Any]):
    """The facility's NEMO servers, by name; their tokens stay in the settings, where no page shows them."""

    def names(self) -> list[str]:
        """Names of all servers."""
        return list(settings().nemo_servers)

    def server(self, name: str, patience: Patience = PATIENT) -> NemoServer:
        """Open the server called `name`; nothing is asked of it yet.

        Raises
        ------
        ConfigurationError
            If the settings know no such server.
        """
        site = settings()
        if name not in site.nemo_servers:
            msg = f"The settings have no NEMO server '{name}'; set NX_NEMO_ADDRESS_n and NX_NEMO_TOKEN_n."
            raise ConfigurationError(msg)
        return open_server(site.nemo_servers[name], verify=site.verify, patience=patience)


def open_server(config: NemoServerConfig, *, verify: bool | str = True, patience: Patience = PATIENT) -> NemoServer:
    """Open the server or folder that `config` describes; nothing is asked of it yet."""
    return FolderNemo(config) if config.is_folder else HttpNemo(config, verify=verify, patience=patience)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def _passes(row: Row, name: str, wanted: Any, clock: ServerClock) -> bool:
    """Whether a row passes a filter, by NEMO's rules."""
    field, _, lookup = name.partition("__")
    value = row.get(field.removesuffix("_id"))
    if lookup == "isnull":
        return bool(wanted) is (value is None)
    if not lookup or lookup == "in":
        return row_id(value) in (wanted if lookup else (wanted,))
    if value is None:
        return False
    try:
        return _COMPARISONS[lookup](clock.parse(value), wanted)
    except ValueError:
        return True


def _page(answer: Any) -> tuple[list[Any], str | None]:
    """Rows of an answer, and the address of the next page if there is one."""
    match answer:
        case list():
            return answer, None
        case {"results": list(rows), "next": str() | None as following}:
            return rows, following
    msg = "it is neither a list nor a page of one"
    raise ValueError(msg)


def _by_number(rows: Iterable[Row]) -> list[Row]:
    """Each row once, sorted by number; of two versions the last."""
    by_number = {row["id"]: row for row in rows}
    return [by_number[number] for number in sorted(by_number)]


def _numbers(rows: Iterable[Row], *fields: str) -> set[int]:
    return {number for row in rows for field in fields if (number := row_id(row.get(field)))}
