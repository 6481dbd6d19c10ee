"""The door to NEMO, before a real NEMO: what it finds, what it survives, what it never tells."""

import email.utils
import json
import logging
import socket
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from nemo_server import NemoProcess, week
from nemo_server.proxy import (
    Fault,
    Handler,
    Proxy,
    drip,
    drip_in_the_head,
    half_an_answer,
    half_the_bytes,
    hang,
    page_of_a_foreign_shape,
    status,
)

from nexuslims_pipeline.sessions.resolve import claims_of, resolve_session
from nexuslims_pipeline.sessions.server_config import NemoServerConfig
from nexuslims_pipeline.sessions.usage import UsageEvent, UsageEventError, fingerprint
from resources.nemo import (
    FolderNemo,
    HttpNemo,
    NemoRefusedError,
    NemoServer,
    NemoUnavailableError,
    open_server,
)
from resources.web import PATIENT, Patience

pytestmark = pytest.mark.server

ZONE = ZoneInfo(week.TIME_ZONE)
ALL_TOOLS = [week.TITAN, week.QUANTA, week.HELIOS]
ALL_EVENTS = [row["id"] for row in week.EVENTS]
NAIVE = "%m-%d-%Y %H:%M:%S"


def moment(text: str) -> datetime:
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=ZONE)


def config(url: str, **more: str | None) -> NemoServerConfig:
    return NemoServerConfig.model_validate({"name": "nemo", "address": url, "token": week.READER_TOKEN} | more)


def found(server: NemoServer, tools: list[int] = ALL_TOOLS) -> list[int]:
    return [row["id"] for row in server.usage_events(since=None, until=None, tools=tools)]


@pytest.fixture(scope="module")
def server(nemo: NemoProcess) -> HttpNemo:
    return HttpNemo(config(nemo.url))


@pytest.fixture(scope="module")
def collected(server: HttpNemo) -> dict[int, UsageEvent]:
    """Everything about every finished event of the week."""
    return {number: server.collect(number) for number in week.OUTCOMES}


class TestWeek:
    def test_every_session_comes_to_its_outcome(self, server: HttpNemo, collected: dict[int, UsageEvent]) -> None:
        sessions = {
            number: resolve_session(usage, key="k", instrument_id="i", nemo_web_address=server.web_address)
            for number, usage in collected.items()
        }

        outcomes = {n: (str(s.state), s.tier, s.reservation_id) for n, s in sessions.items()}
        assert outcomes == week.OUTCOMES
        assert sessions[1].title == "After the run"
        assert [(s.name, s.pid, s.description, s.elements) for s in sessions[1].samples] == [
            ("coupon <7> & co", None, "etched\nthen polished", ("Fe", "O")),
            (None, "hdl:20.500/abc-17", None, ()),
        ]
        assert sessions[1].project is not None
        assert (sessions[1].project.project_id, sessions[1].project.name) == ("MD-2026-1", "Oxide films")
        assert (sessions[1].link or "").endswith("/event_details/usage/1/")
        assert (sessions[4].link or "").endswith("/event_details/reservation/2/")
        assert sessions[4].project is not None
        assert sessions[4].project.project_id == "ST-04"
        assert sessions[14].operator is not None
        assert sessions[14].operator.display_name == "Mary Staff (mstaff)"
        assert sessions[1].operator is None
        assert [s.name for s in sessions[24].samples] == ["weld A"]
        assert sessions[26].user is not None
        assert sessions[26].user.username == "bfranklin"
        assert "Ada Lovelace" in sessions[26].warnings[0]

    def test_times_keep_their_offset_over_the_change_of_the_clock(self, collected: dict[int, UsageEvent]) -> None:
        night = resolve_session(collected[16], key="k", instrument_id="i", nemo_web_address=None)

        assert night.start.isoformat() == "2026-03-07T22:00:00-05:00"
        assert night.end.isoformat() == "2026-03-08T05:00:00-04:00"
        assert night.end - night.start == timedelta(hours=6)

    def test_only_overlapping_neighbours_make_claims(self, collected: dict[int, UsageEvent]) -> None:
        claims = {n: [(c.usage_event_id, c.consent) for c in claims_of(u)] for n, u in collected.items()}

        assert {n: c for n, c in claims.items() if c} == {21: [(22, False)], 22: [(21, True)]}

    def test_stored_event_is_trimmed_and_the_same_when_read_back(self, collected: dict[int, UsageEvent]) -> None:
        usage = collected[14]

        assert UsageEvent.model_validate(json.loads(json.dumps(usage.model_dump(mode="json")))) == usage
        assert {user.username for user in usage.users} == {"alovelace", "mstaff"}
        assert "badge" not in usage.model_dump_json()

    def test_poll_computes_the_same_fingerprints(self, server: HttpNemo, collected: dict[int, UsageEvent]) -> None:
        listed = server.usage_events(since=None, until=None, tools=ALL_TOOLS)
        events = [event for event in listed if event["end"] is not None]

        polled = {
            event["id"]: fingerprint(event, chain.from_iterable(around))
            for event, around in zip(events, server.surroundings(events), strict=True)
        }
        assert polled == {number: usage.fingerprint for number, usage in collected.items()}

    def test_running_event_is_listed_but_not_collected(self, server: HttpNemo) -> None:
        assert 19 in found(server)
        with pytest.raises(UsageEventError, match="still running"):
            server.collect(19)

    def test_saved_answers_say_the_same_as_the_server(
        self, nemo: NemoProcess, collected: dict[int, UsageEvent], tmp_path: Path
    ) -> None:
        for endpoint in ("usage_events", "reservations", "users", "projects", "tools"):
            query = "?page_size=100" if endpoint == "usage_events" else ""
            answer = requests.get(
                f"{nemo.url}{endpoint}/{query}", headers={"Authorization": f"Token {nemo.token}"}, timeout=30
            )
            (tmp_path / f"{endpoint}.json").write_bytes(answer.content)

        folder = open_server(config(f"{tmp_path.as_uri()}/", token=None))

        assert isinstance(folder, FolderNemo)
        assert folder.check(ALL_TOOLS) == []
        assert found(folder) == ALL_EVENTS
        assert {number: folder.collect(number) for number in week.OUTCOMES} == collected


class TestSpan:
    @pytest.mark.parametrize(
        ("since", "until"),
        [
            ("02-28 00:00", "03-01 00:00"),
            ("03-02 11:30", "03-02 13:00"),
            ("03-02 11:31", "03-02 12:59"),
            ("03-08 01:30", "03-08 03:30"),
            ("03-10 09:00", None),
            (None, "03-02 09:00"),
            ("03-20 00:00", "03-21 00:00"),
        ],
    )
    def test_finds_what_touches_a_span_however_long(
        self, server: HttpNemo, since: str | None, until: str | None
    ) -> None:
        first, last = since and moment(since), until and moment(until)
        expected = [
            row["id"]
            for row in week.EVENTS
            if (last is None or moment(row["start"]) <= last)
            and (first is None or row["end"] is None or moment(row["end"]) >= first)
        ]

        events = server.usage_events(since=first or None, until=last or None, tools=ALL_TOOLS)

        assert [event["id"] for event in events] == expected

    def test_reservation_of_eight_days_overlaps_an_hour(self, server: HttpNemo) -> None:
        hour = {"start": moment("03-04 09:00").isoformat(), "end": moment("03-04 10:00").isoformat()}
        (around,) = server.surroundings([{"id": 99, "tool": week.HELIOS, **hour}])

        assert [row["id"] for row in around.reservations] == [3]

    def test_retired_tool_costs_no_other_tool(self, server: HttpNemo, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert found(server, [week.RETIRED, *ALL_TOOLS]) == ALL_EVENTS

        assert "no tool 99" in caplog.text
        assert found(server, [week.RETIRED]) == []
        assert [p for p in server.check([week.RETIRED, *ALL_TOOLS]) if "no tool 99" in p]


def test_edits_and_deletions_show(own_nemo: NemoProcess) -> None:
    server = HttpNemo(config(own_nemo.url))
    admin = requests.Session()
    admin.headers["Authorization"] = f"Token {own_nemo.admin_token}"
    before = server.collect(4).fingerprint
    unchanged = server.collect(2).fingerprint

    admin.patch(f"{own_nemo.url}usage_events/4/", json={"end": "2026-03-03T12:05:00-05:00"}, timeout=30)
    moved = server.collect(4)
    admin.patch(f"{own_nemo.url}reservations/2/", json={"title": "renamed"}, timeout=30)
    renamed = server.collect(4)
    admin.delete(f"{own_nemo.url}usage_events/4/", timeout=30).raise_for_status()

    assert moved.event["end"] == "2026-03-03T12:05:00-05:00"
    assert len({before, moved.fingerprint, renamed.fingerprint}) == 3
    assert server.collect(2).fingerprint == unchanged
    assert server.usage_event(4) is None
    with pytest.raises(UsageEventError, match="does not exist"):
        server.collect(4)


def test_server_without_offsets_gives_the_same_sessions(collected: dict[int, UsageEvent]) -> None:
    with NemoProcess(datetime_format=NAIVE) as naive:
        server = HttpNemo(
            config(naive.url, time_zone=week.TIME_ZONE, strptime_format=NAIVE, strftime_format="%Y-%m-%d %H:%M")
        )
        for number in (4, 15, 16, 21):
            usage = server.collect(number)
            session = resolve_session(usage, key="k", instrument_id="i", nemo_web_address=None)

            assert usage.event["start"] == moment(week.EVENTS[number - 1]["start"]).strftime(NAIVE)
            assert session == resolve_session(collected[number], key="k", instrument_id="i", nemo_web_address=None)
            assert claims_of(usage) == claims_of(collected[number])
        # NEMO refuses a local time of the hour that happens twice; the span must not run into it.
        autumn = datetime(2026, 11, 2, 5, 30, tzinfo=UTC)
        assert server.usage_events(since=autumn, until=autumn, tools=ALL_TOOLS) != []
        unreadable = HttpNemo(config(naive.url))
        with pytest.raises(UsageEventError, match="no usable times"):
            unreadable.collect(4)


@pytest.fixture
def proxy(nemo: NemoProcess) -> Iterator[Proxy]:
    with Proxy(nemo.port) as running:
        yield running
        running.shutdown()


HASTY = Patience(connect=5, read=0.3, total=0.5, pauses=(1, 2, 4, 8))


FAULTS = [
    *(status(code) for code in (429, 500, 502, 503, 504)),
    hang,
    drip,
    drip_in_the_head,
    half_an_answer,
    half_the_bytes,
    page_of_a_foreign_shape,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_all_sessions_are_found_after_a_passing_fault(proxy: Proxy, fault: Fault) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if not proxy.faults:  # only the faults, not the real NEMO, shall run into the short limits
            server._patience = PATIENT

    proxy.faults = [fault, fault]
    server = HttpNemo(config(proxy.url), patience=HASTY, sleep=wait)

    assert found(server) == ALL_EVENTS
    assert len(waited) == 2
    assert 0.75 <= waited[0] <= 1.25 < 1.5 <= waited[1] <= 2.5


def test_server_that_comes_back_is_asked_again(nemo: NemoProcess) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started: list[Proxy] = []

    def come_back(_: float) -> None:
        started.append(Proxy(nemo.port, port))

    server = HttpNemo(config(f"http://127.0.0.1:{port}/api/"), sleep=come_back)
    try:
        assert found(server) == ALL_EVENTS
        assert len(started) == 1
    finally:
        for running in started:
            running.shutdown()
            running.server_close()


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("7", 7, 7), ("100000", 60, 60), ("soon", 0.75, 1.25), ("in 50 s", 20, 50), ("in 9000 s", 60, 60)],
)
def test_server_says_how_long_to_wait(proxy: Proxy, asked: str, least: float, most: float) -> None:
    waited: list[float] = []
    if asked.startswith("in"):
        then = datetime.now(UTC) + timedelta(seconds=int(asked.split()[1]))
        asked = email.utils.format_datetime(then, usegmt=True)
    proxy.faults = [status(503, Retry_After=asked)]

    assert found(HttpNemo(config(proxy.url), sleep=waited.append)) == ALL_EVENTS
    assert least <= waited[0] <= most


def test_server_that_stays_away_is_given_up(proxy: Proxy) -> None:
    waited: list[float] = []
    server = HttpNemo(config(proxy.url), sleep=waited.append)
    proxy.faults = [status(503)] * 100

    with pytest.raises(NemoUnavailableError, match=r"NEMO server 'nemo' .* status 503"):
        found(server)
    assert len(proxy.seen) == 5
    assert waited == sorted(waited)
    proxy.faults, proxy.seen = [status(500)] * 100, []
    with pytest.raises(NemoUnavailableError, match="status 500"):
        found(server)
    assert len(proxy.seen) == 3
    assert server.check(ALL_TOOLS) != []


def test_pages_are_followed_on_our_server_only(proxy: Proxy) -> None:
    def in_pages(handler: Handler) -> None:
        handler.forward(page_size="4")

    def elsewhere(handler: Handler) -> None:
        handler.answer(200, b'{"results": [], "next": "http://192.0.2.1/api/tools/?page=1&page_size=1"}')

    server = HttpNemo(config(proxy.url))
    proxy.faults = [Handler.forward, in_pages]
    assert found(server) == ALL_EVENTS
    assert len(proxy.seen) == 2 + len(ALL_EVENTS) // 4

    proxy.faults = [elsewhere] * 50
    with pytest.raises(NemoRefusedError, match="endless pages"):
        found(server)


def test_token_goes_to_no_other_server_and_into_no_message(
    proxy: Proxy, nemo: NemoProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = HttpNemo(config(proxy.url), sleep=lambda _: None)
    elsewhere = f"http://localhost:{proxy.server_port}/api/tools/?secret=1"
    faults: list[list[Fault]] = [
        [status(302, Location=elsewhere)],
        [status(302, Location="//[")] * 9,
        [status(302, Location=f"/api/tools/?{n}") for n in range(9)],
        [status(503)] * 9,
        [lambda handler: handler.answer(400, f"no: {handler.headers['Authorization']}".encode())],
        [half_the_bytes] * 9,
    ]
    told = [repr(server), str(vars(server)), repr(vars(server._web)), repr(vars(server._web._session))]
    for these in faults:
        proxy.faults, proxy.seen = [*these], []
        with pytest.raises((NemoRefusedError, NemoUnavailableError)) as caught:
            found(server)
        assert len(proxy.seen) == min(len(these), 5) if len(these) > 1 else len(proxy.seen) >= 1
        error: BaseException | None = caught.value
        told.append("".join(traceback.format_exception(caught.value)))
        while error is not None:
            assert not hasattr(error, "request")
            told.append(repr(vars(error)))
            error = error.__context__

    assert week.READER_TOKEN not in "".join(told) + caplog.text
    assert "http://localhost" in told[4]
    assert "secret" not in told[4]


def test_redirect_on_the_same_server_is_followed(proxy: Proxy) -> None:
    proxy.faults = [lambda handler: handler.answer(301, b"", Location=f"{handler.path}&again=1")]

    assert found(HttpNemo(config(proxy.url))) == ALL_EVENTS


@pytest.mark.parametrize(
    ("path", "token", "mend"),
    [
        ("api/", "9" * 40, "does not accept the token.*NX_NEMO_TOKEN"),
        ("nowhere/", week.READER_TOKEN, "no API at .*NX_NEMO_ADDRESS"),
    ],
)
def test_refusals_say_the_mend_at_once(nemo: NemoProcess, path: str, token: str, mend: str) -> None:
    server = HttpNemo(config(f"http://127.0.0.1:{nemo.port}/{path}", token=token), sleep=pytest.fail)

    with pytest.raises(NemoRefusedError, match=mend):
        found(server)
    assert len(server.check(ALL_TOOLS)) > 0


def test_missing_rights_are_named(nemo: NemoProcess) -> None:
    problems = HttpNemo(config(nemo.url, token=week.POWERLESS_TOKEN), sleep=pytest.fail).check(ALL_TOOLS)

    assert len(problems) == 5
    assert "NEMO | usage event | Can view usage event" in problems[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'"rows"', b"\xff\xfe", b'{"results": 3}'])
def test_damaged_folder_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tools.json").write_bytes(content)

    with pytest.raises(NemoRefusedError, match=r"tools\.json"):
        found(open_server(config(f"{tmp_path.as_uri()}/", token=None)))


def test_strange_rows_cost_only_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = {
        "id": 5,
        "tool": 1,
        "start": "2026-03-02T09:00:00Z",
        "end": "2026-03-02T10:00:00Z",
        "note": "\ud800",
    }
    rows = [good, 7, None, [], {"id": True}, {"id": "5"}, good | {"id": 6, "start": "yesterday"},
            good | {"id": 7, "end": 12}, good | {"id": 8, "end": "2026-03-01T00:00:00Z"},
            good | {"id": 9, "tool": {}}, good | {"id": 10, "note": float("nan")}]  # fmt: skip
    (tmp_path / "usage_events.json").write_text(json.dumps(rows))
    (tmp_path / "tools.json").write_text('[{"id": 1, "name": "Titan"}]')
    for name in ("users", "projects", "reservations"):
        (tmp_path / f"{name}.json").write_text("[]")
    folder = open_server(config(f"{tmp_path.as_uri()}/", token=None))

    assert found(folder) == [5, 10]
    assert "usage event 6 is left out" in caplog.text
    assert json.loads(folder.collect(5).model_dump_json())["event"]["note"] == "?"
