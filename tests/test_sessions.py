"""From NEMO's answers to a session: keys, times, consent, samples; hostile answers included."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nexuslims_pipeline.sessions.answers import LONGEST, read_form, samples_of, text_answer
from nexuslims_pipeline.sessions.consent import AFFIRMATIVE, Consent, consent_of
from nexuslims_pipeline.sessions.keys import event_of, instrument_of, parse_key, session_key
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.sessions.resolve import claims_of, resolve_session
from nexuslims_pipeline.sessions.server_config import NemoServerConfig
from nexuslims_pipeline.sessions.times import ServerClock
from nexuslims_pipeline.sessions.usage import (
    NemoProject,
    NemoUser,
    UsageEvent,
    UsageEventError,
    fingerprint,
    storable,
    trimmed,
)

KEY = "2026-03-02_FEI-Titan_nemo-7"
AGREED = {"data_consent": {"user_input": "Agree"}}
REFUSED = {"data_consent": {"user_input": "Disagree"}}


def usage(run: Any = "", pre: Any = "", bookings: list[dict[str, Any]] | None = None, **changed: Any) -> UsageEvent:
    """Event 7 of tool 1, from 10 to 12 o'clock, used by user 2."""
    event = {
        "id": 7, "start": "2026-03-02T10:00:00+00:00", "end": "2026-03-02T12:00:00+00:00", "tool": 1, "user": 2,
        "operator": 2, "project": 1, "pre_run_data": pre, "run_data": run,
    } | changed  # fmt: skip
    people = [{"id": 2, "username": "ada", "first_name": "Ada", "last_name": None, "badge_number": 12},
              {"id": 3, "username": "ben"}]  # fmt: skip
    projects = [{"id": 1, "name": "Oxides", "application_identifier": "OX-1"}]
    return UsageEvent(
        server="nemo", event=event, reservations=tuple(bookings or ()), users=trimmed(people, NemoUser),
        projects=trimmed(projects, NemoProject),
    )  # fmt: skip


def booking(number: int, start: str, end: str, form: Any = AGREED, **changed: Any) -> dict[str, Any]:
    return {
        "id": number, "start": f"2026-03-02T{start}:00+00:00", "end": f"2026-03-02T{end}:00+00:00", "tool": 1,
        "user": 2, "project": 1, "question_data": form, "cancelled": False, "missed": False, "shortened": False,
        "descendant": None,
    } | changed  # fmt: skip


def resolved(event: UsageEvent) -> Session:
    return resolve_session(event, key=KEY, instrument_id="FEI-Titan", nemo_web_address="https://nemo.example.org/")


def outcome(event: UsageEvent) -> tuple[str, str | None, int | None]:
    session = resolved(event)
    return str(session.state), session.tier, session.reservation_id


class TestKeys:
    def test_date_is_that_of_the_instrument(self) -> None:
        start = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)

        assert session_key(start, "FEI-Titan-STEM", "nemo", 4711, "America/Denver") == (
            "2026-03-01_FEI-Titan-STEM_nemo-4711"
        )
        assert session_key(start, "JEM.2", "nemo2", 1, ZoneInfo("Asia/Tokyo")) == "2026-03-02_JEM.2_nemo2-1"

    def test_key_gives_its_parts_back(self) -> None:
        key = session_key(datetime(2026, 3, 2, tzinfo=UTC), "FEI-Titan-STEM", "nemo.b", 12, "UTC")

        assert event_of(key) == ("nemo.b", 12)
        assert instrument_of(key) == "FEI-Titan-STEM"
        assert parse_key(key).start_date.isoformat() == "2026-03-02"

    @pytest.mark.parametrize(
        "key", ["", "2026-03-02_a_b", "2026-13-02_a_b-1", "2026-03-02_../x_b-1", "2026-03-02_a_b-1\n", "x" + KEY]
    )
    def test_other_text_is_no_key(self, key: str) -> None:
        with pytest.raises(ValueError):
            parse_key(key)

    def test_unfit_parts_are_refused(self) -> None:
        with pytest.raises(ValueError, match="time zone"):
            session_key(datetime(2026, 3, 2), "a", "nemo", 1, "UTC")
        with pytest.raises(ValueError, match="no session key"):
            session_key(datetime(2026, 3, 2, tzinfo=UTC), "a/b", "nemo", 1, "UTC")


class TestTimes:
    def test_offset_is_kept_as_it_stands(self) -> None:
        moment = ServerClock("Asia/Tokyo").parse("2026-03-02T09:00:00.822105-05:00")

        assert moment.isoformat() == "2026-03-02T09:00:00.822105-05:00"

    def test_time_without_offset_is_on_the_servers_clock(self) -> None:
        clock = ServerClock("America/New_York", "%m-%d-%Y %H:%M:%S")

        assert clock.parse("03-07-2026 22:00:00").isoformat() == "2026-03-07T22:00:00-05:00"
        assert clock.parse("03-08-2026 22:00:00.25").isoformat() == "2026-03-08T22:00:00-04:00"
        assert clock.parse("2026-03-08T22:00:00Z").isoformat() == "2026-03-08T22:00:00+00:00"

    def test_hour_that_happens_twice(self) -> None:
        clock = ServerClock("America/New_York")
        start, end = clock.window({"start": "2026-11-01T01:50:00", "end": "2026-11-01T01:10:00"})

        assert end is not None
        assert end - start == timedelta(minutes=20)
        before, after = clock.window({"start": "2026-10-31T22:00:00", "end": "2026-11-01T04:00:00"})
        assert after is not None
        assert after - before == timedelta(hours=7)

    @pytest.mark.parametrize(
        "text", [None, 5, True, [], "", "soon", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1" * 500]
    )
    def test_other_values_are_no_time(self, text: object) -> None:
        with pytest.raises(ValueError):
            ServerClock("UTC").parse(text)


class TestConsent:
    @pytest.mark.parametrize("answer", ["Agree", " agree\n", "YES", "true", "Affirmative", True])
    def test_affirmative_words_give_consent(self, answer: object) -> None:
        assert consent_of({"data_consent": {"user_input": answer}}) is Consent.GIVEN
        assert consent_of({"data_consent": answer}) is Consent.GIVEN

    @pytest.mark.parametrize(
        "answer", ["Disagree", "Disagree ", "no", "I do not agree", "agree?", "agreee", "ja", False, 0, 1, ["Agree"],
                   {"0": "Agree"}]
    )  # fmt: skip
    def test_every_other_answer_is_a_refusal(self, answer: object) -> None:
        assert consent_of({"data_consent": {"user_input": answer}}) is Consent.REFUSED

    @pytest.mark.parametrize(
        "form", [{}, {"data_consent": None}, {"data_consent": {"default_choice": "Agree"}},
                 {"data_consent": {"user_input": None}}, {"data_consent": {"user_input": " "}}, {"data_consent": ""}]
    )  # fmt: skip
    def test_no_answer_is_neither(self, form: dict[str, Any]) -> None:
        assert consent_of(form) is Consent.ABSENT


class TestTiers:
    @pytest.mark.parametrize("nothing", [None, "", "{", "[]", "5", "{}", 5, [], "[" * 10_000, json.dumps({"x": 1})])
    def test_unusable_form_leads_to_the_next(self, nothing: object) -> None:
        own = [booking(1, "10:00", "12:00")]

        assert outcome(usage(json.dumps(AGREED), nothing)) == ("READY", "run_data", None)
        assert outcome(usage(nothing, json.dumps(AGREED))) == ("READY", "pre_run_data", None)
        assert outcome(usage(nothing, nothing, own)) == ("READY", "reservation", 1)
        assert outcome(usage(nothing, nothing, [own[0] | {"question_data": nothing}]))[0] == "NO_CONSENT"
        assert outcome(usage(nothing, nothing)) == ("NO_RESERVATION", None, None)

    def test_form_may_be_text_or_object_everywhere(self) -> None:
        assert outcome(usage(AGREED)) == ("READY", "run_data", None)
        assert outcome(usage(bookings=[booking(1, "10:00", "12:00", json.dumps(AGREED))]))[0] == "READY"

    def test_refusal_is_final(self) -> None:
        own = [booking(1, "10:00", "12:00")]

        assert outcome(usage(REFUSED, AGREED, own)) == ("NO_CONSENT", "run_data", None)
        assert outcome(usage("", REFUSED, own)) == ("NO_CONSENT", "pre_run_data", None)
        assert outcome(usage("", "", [booking(1, "10:00", "12:00", REFUSED), booking(2, "11:00", "12:00")])) == (
            "NO_CONSENT",
            "reservation",
            None,
        )

    def test_without_consent_no_answer_is_kept(self) -> None:
        form = REFUSED | {"experiment_title": "Secret", "sample_name": "Secret", "project_id": "Secret"}
        session = resolved(usage(form))

        assert session.user is not None
        assert "Disagree" in session.reason
        assert "Secret" not in session.model_dump_json()


class TestReservations:
    def test_largest_overlap_wins_also_of_a_long_one(self) -> None:
        long = booking(3, "", "") | {"start": "2026-02-20T00:00:00+00:00", "end": "2026-03-09T00:00:00+00:00"}

        assert outcome(usage(bookings=[booking(1, "09:00", "11:00"), long]))[2] == 3
        assert outcome(usage(bookings=[long, booking(4, "10:00", "12:00"), booking(1, "10:00", "11:59")]))[2] == 3

    def test_ties_go_to_the_user_then_to_the_lower_number(self) -> None:
        same = [booking(n, "10:00", "12:00", user=user) for n, user in ((1, 3), (5, 2), (4, 2))]

        assert outcome(usage(bookings=same))[2] == 4

    @pytest.mark.parametrize(
        "withdrawn",
        [{"cancelled": True}, {"missed": True}, {"shortened": True, "descendant": 2}, {"tool": 9}, {"tool": None},
         {"start": "2026-03-02T12:00:00+00:00", "end": "2026-03-02T13:00:00+00:00"}, {"start": "soon"}, {"end": {}}],
    )  # fmt: skip
    def test_invalid_reservations_do_not_count(self, withdrawn: dict[str, Any]) -> None:
        best, second = booking(1, "10:00", "12:00") | withdrawn, booking(2, "10:00", "10:30")

        assert outcome(usage(bookings=[best])) == ("NO_RESERVATION", None, None)
        assert outcome(usage(bookings=[best, second]))[2] == 2

    def test_malformed_times_are_told(self) -> None:
        session = resolved(usage(bookings=[booking(1, "soon", "12:00")]))

        assert "Reservation 1 has no usable times" in session.warnings[0]

    def test_user_project_and_link_are_those_of_the_reservation(self) -> None:
        session = resolved(usage(bookings=[booking(1, "10:00", "12:00", user=3)]))

        assert session.user is not None
        assert session.user.username == "ben"
        assert session.operator is not None
        assert session.operator.display_name == "Ada (ada)"
        assert session.project is not None
        assert session.project.project_id == "OX-1"
        assert session.link == "https://nemo.example.org/event_details/reservation/1/"


class TestAnswers:
    def test_rows_of_a_group_come_in_numeric_order_with_lasting_ids(self) -> None:
        rows = {str(n): {"sample_name": f"s{n}", "sample_or_pid": "Sample Name"} for n in (10, 2, 1, 0)}
        samples = samples_of({"sample_group": {"user_input": rows}}, KEY, [])

        assert [s.name for s in samples] == ["s0", "s1", "s2", "s10"]
        assert len({s.id for s in samples}) == 4
        del rows["0"]
        assert samples_of({"sample_group": {"user_input": rows}}, KEY, []) == samples[1:]
        assert samples_of({"sample_group": {"user_input": rows}}, "other", [])[0].id != samples[1].id

    def test_pid_name_and_elements(self) -> None:
        rows = [
            {"sample_name": "hdl:20.500/1", "sample_or_pid": " pid", "periodic_table": ["Al", "Xx", "Al", 7, "Zn"]},
            {"sample_name": {"user_input": "foil"}, "sample_details": None},
            {"sample_name": None, "sample_details": "no name", "periodic_table": "Cu, O"},
            {"sample_name": ""},
            "junk",
        ]
        warnings: list[str] = []
        samples = samples_of({"sample_group": {"user_input": rows}}, KEY, warnings)

        assert [(s.name, s.pid, s.description, s.elements) for s in samples] == [
            (None, "hdl:20.500/1", None, ("Al", "Zn")),
            ("foil", None, None, ()),
            (None, None, "no name", ("Cu", "O")),
        ]
        assert warnings == [
            "Row 4 of 'sample_group' is not a sample and is left out.",
            'Unknown or repeated elements are left out: "Xx", "Al", 7.',
        ]

    def test_old_single_question_gives_a_sample(self) -> None:
        form = {"sample_name": {"user_input": "weld"}, "sample_details": {"user_input": "as is"}, "sample_group": None}

        assert [(s.name, s.description) for s in samples_of(form, KEY, [])] == [("weld", "as is")]

    @pytest.mark.parametrize(
        ("value", "kept", "warned"),
        [
            ("  T6 <a> & b ", "T6 <a> & b", False),
            (12, "12", False),
            ("a\x00b\ud800\x1b", "a\ufffdb\ufffd\ufffd", True),
            ("x" * 20_000, "x" * LONGEST, True),
            (["a"], None, True),
            (True, None, True),
            pytest.param(10**5000, None, True, id="endless"),
            (None, None, False),
        ],
    )
    def test_text_is_fit_for_a_record(self, value: object, kept: str | None, warned: bool) -> None:
        warnings: list[str] = []

        assert text_answer({"experiment_title": {"user_input": value}}, "experiment_title", warnings) == kept
        assert bool(warnings) is warned


class TestClaims:
    def test_whatever_is_unknown_is_not_touched(self) -> None:
        other = usage().event | {"id": 8, "start": "2026-03-02T11:00:00+00:00", "end": "2026-03-02T14:00:00+00:00"}
        neighbours = [
            other,
            other | {"id": 9, "run_data": AGREED},
            other | {"id": 10, "end": None, "pre_run_data": AGREED},
            other | {"id": 11, "start": "soon", "run_data": AGREED},
            other | {"id": 7},
            other | {"id": None},
        ]
        event = usage(AGREED).model_copy(update={"neighbours": tuple(neighbours)})
        later = booking(1, "13:00", "14:00")

        claims = claims_of(event)
        assert [(c.usage_event_id, c.consent) for c in claims] == [(8, False), (9, True), (10, True), (11, True)]
        assert claims[2].end is None
        assert (claims[3].start.hour, claims[3].end) == (10, None)
        booked = event.model_copy(update={"neighbour_reservations": (later,)})
        assert claims_of(booked)[0].consent


class TestEvents:
    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"end": None}, "still running"),
            ({"start": "soon"}, "no usable times"),
            ({"end": "2026-03-01T00:00:00Z"}, "before it starts"),
            ({"id": "7"}, "no number"),
        ],
    )
    def test_unusable_event_is_no_session(self, changed: dict[str, Any], reason: str) -> None:
        with pytest.raises(UsageEventError, match=reason):
            resolved(usage(**changed))

    def test_unknown_people_and_projects_are_told(self) -> None:
        session = resolved(usage(AGREED, user=77, operator=None, project=77))

        assert (session.user, session.operator, session.project) == (None, None, None)
        assert session.warnings == ("NEMO does not tell who user 77 is.",)

    def test_fingerprint_follows_content_not_order(self) -> None:
        first, second = booking(1, "10:00", "11:00"), booking(2, "11:00", "12:00")
        event = usage().event

        assert fingerprint(event, [first, second]) == fingerprint(dict(reversed(event.items())), [second, first])
        assert fingerprint(event, [first]) != fingerprint(event, [first, second])
        assert fingerprint(event, [first]) != fingerprint(event | {"note": "x"}, [first])
        assert len(fingerprint(event, [])) == hashlib.sha256().digest_size * 2


class TestServerConfig:
    def test_web_pages_lie_beside_the_api(self) -> None:
        config = NemoServerConfig.model_validate(
            {"name": "nemo", "address": "https://a.example/lab/api/", "token": "x"}
        )

        assert config.web_address == "https://a.example/lab/"
        assert "'x'" not in repr(config)

    @pytest.mark.parametrize(
        "changed",
        [{"address": "https://a.example/api"}, {"address": "nemo/"}, {"address": "ftp://a.example/"},
         {"address": "https://user:hush-hush@a.example/"}, {"address": "https://a.example/api/?x=/"},
         {"token": "hush-hush\n"}, {"token": "hush hush-hush"}, {"token": None}, {"name": "a_b"}, {"name": "a-b"},
         {"time_zone": "Mars/Olympus"}],
    )  # fmt: skip
    def test_mistakes_are_refused_without_the_secret(self, changed: dict[str, Any]) -> None:
        good = {"name": "nemo", "address": "https://a.example/api/", "token": "t"}
        with pytest.raises(ValidationError) as caught:
            NemoServerConfig.model_validate(good | changed)

        assert "hush-hush" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Agree", "no", "0", "Al"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["user_input", "0", "1", "sample_name", "periodic_table"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
QUESTIONS = ["data_consent", "experiment_title", "experiment_purpose", "project_id", "sample_group", "sample_name"]
FORM = st.dictionaries(st.sampled_from(QUESTIONS), JSON | st.fixed_dictionaries({"user_input": JSON})) | JSON


def says_yes(form: Any) -> bool:
    """Whether a form agrees, said in other words than the code under test."""
    if isinstance(form, str):
        form = read_form(form)
    given_answer = form.get("data_consent") if isinstance(form, dict) else None
    if isinstance(given_answer, dict):
        given_answer = given_answer.get("user_input")
    return given_answer is True or str(given_answer).strip().lower() in AFFIRMATIVE - {"true"} | (
        {"true"} if isinstance(given_answer, str) else set()
    )


@settings(max_examples=300, deadline=None)
@given(run=FORM, pre=FORM, question_data=FORM, as_text=st.booleans())
def test_no_answer_crashes_and_none_but_a_yes_is_consent(run: Any, pre: Any, question_data: Any, as_text: bool) -> None:
    if as_text:
        run, pre = json.dumps(run), json.dumps(pre)
    event = usage(storable(run), storable(pre), [booking(1, "10:00", "12:00", storable(question_data))])

    session = resolved(event)

    assert Session.model_validate_json(session.model_dump_json()) == session
    if session.state is SessionState.READY:
        forms = {"run_data": run, "pre_run_data": pre, "reservation": question_data}
        assert session.tier is not None
        assert says_yes(forms[session.tier])


@settings(max_examples=200, deadline=None)
@given(
    row=st.dictionaries(st.sampled_from(["id", "start", "end", "tool", "user", "operator", "project"]), JSON),
    other=st.dictionaries(st.sampled_from(["id", "start", "end", "tool", "cancelled", "descendant"]), JSON),
)
def test_no_row_crashes(row: dict[str, Any], other: dict[str, Any]) -> None:
    event = usage(bookings=[booking(1, "10:00", "12:00") | other], **row)
    event = event.model_copy(update={"neighbours": (other, event.event | other | {"id": 9})})

    try:
        session = resolved(event)
        claims = claims_of(event)
    except UsageEventError as error:
        assert str(error).startswith(("Usage event", "The usage event"))
    else:
        assert session.end >= session.start
        assert all(claim.usage_event_id != session.usage_event_id for claim in claims)
