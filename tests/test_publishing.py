"""The protocol of publishing by itself: what is sent when, what is due, and what counts as published."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import pytest
from faults import NOW, Sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from publications import KEY, publication

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.publication.model import Link, Publication
from resources import publishing
from resources.destinations.base import (
    Destination,
    DestinationBusyError,
    DestinationError,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.ledger import Entry, Ledger
from resources.publishing import Publisher, due_at, status_of

OTHER, THIRD = KEY.replace("-104", "-105"), KEY.replace("-104", "-106")
STRATEGIES = get_args(Settings.model_fields["export_strategy"].annotation)


@dataclasses.dataclass
class Copy:
    key: str
    address: str
    xml: bytes
    links: dict[str, str]


class Memory(Destination):
    """A destination in memory that counts what it is asked, and can fail."""

    name: ClassVar[str] = "memory"
    asset_name: ClassVar[str] = "memory_copy"
    label: ClassVar[str] = "Memory"
    version: ClassVar[str] = "1"

    def __init__(self) -> None:
        self.copies: dict[str, Copy] = {}
        self.calls: list[str] = []
        self.place = "here"
        self.root = "https://old.example.org/"
        self.broken: list[str] = []
        """Copies that lack something."""
        self.hidden: list[str] = []
        """Copies that are not found, since somebody moved them."""
        self.troubles: list[str] = []
        self.before: Callable[[str], object] = lambda _: None
        """Called with the name of each method before it does its work; may raise."""
        self.after: Callable[[str], object] = lambda _: None

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        return cls()

    def address(self, publication: Publication) -> str:
        return self.place

    def _do(self, what: str, work: Callable[[], Any]) -> Any:
        self.calls.append(what)
        self.before(what)
        result = work()
        self.after(what)
        return result

    def find(self, key: str, address: str) -> list[Remote]:
        def look() -> list[Remote]:
            found = [name for name, copy in self.copies.items() if (copy.key, copy.address) == (key, address)]
            return [self._remote(name) for name in sorted(found, key=int) if name not in self.hidden]

        found: list[Remote] = self._do("find", look)
        return found

    def is_copy(self, remote: Remote, key: str) -> bool:
        return remote.id in self.copies and self.copies[remote.id].key == key

    def create(self, publication: Publication) -> Remote:
        name = str(len(self.calls))
        self._do("create", lambda: self._put(name, publication))
        return self._remote(name)

    def update(self, remote: Remote, publication: Publication) -> Remote:
        self._do("update", lambda: self._put(remote.id, publication))
        return self._remote(remote.id)

    def withdraw(self, remote: Remote) -> None:
        self._do("withdraw", lambda: self.copies.pop(remote.id, None))

    def check(self) -> list[str]:
        return self.troubles

    def _put(self, name: str, publication: Publication) -> None:
        links = {name: link.url for name, link in publication.links.items()}
        self.copies[name] = Copy(publication.key, self.place, publication.xml, links)
        self.broken = [broken for broken in self.broken if broken != name]

    def _remote(self, name: str) -> Remote:
        return Remote(id=name, url=f"{self.root}{self.name}/{name}", is_whole=name not in self.broken)


class Linking(Memory):
    """A destination that links to the other one."""

    name = "linking"
    shows_links_of = ("memory",)


class Brief(Sessions):
    """Sessions whose records are a few words: there is no need for true ones here."""

    def publication(self, key: str, links: Mapping[str, Link]) -> Publication | None:
        content = self.content(key, ())
        if content is None:
            return None
        return dataclasses.replace(_any_publication(self.folder), key=key, xml=content.encode(), links=dict(links))


@cache
def _any_publication(folder: Path) -> Publication:
    return publication(folder, datasets=1)


class Place:
    """Two destinations, the second of which links to the first, with their ledgers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sessions = Brief(folder, {KEY: 1})
        self.first, self.second = Memory(), Linking()
        ledgers = {d.name: Ledger(folder / d.name) for d in (self.first, self.second)}
        labels = {d.name: d.label for d in (self.first, self.second)}
        self.publishers = [Publisher(d, ledgers, labels, self.sessions) for d in (self.first, self.second)]

    @property
    def publisher(self) -> Publisher:
        return self.publishers[0]

    def entry(self, key: str = KEY, which: int = 0) -> Entry:
        entry = self.publishers[which].ledger.read(key)
        assert entry is not None
        return entry

    def outage_was(self, ago: timedelta) -> None:
        outage = self.publisher.ledger.outage()
        assert outage is not None
        earlier = outage.model_copy(update={"at": datetime.now(UTC) - ago})
        (self.folder / "memory" / ".outage").write_text(earlier.model_dump_json())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def unavailable(_: str) -> None:
    raise DestinationUnavailableError("no answer")


def refused(what: str) -> None:
    if what in ("create", "update"):
        raise DestinationRefusedError("element 'x' is not expected")


# What is sent


def test_a_record_is_sent_once_and_then_only_looked_for(place: Place) -> None:
    made = place.publisher.publish(KEY)
    assert made is not None
    assert (made.action, made.version, place.first.calls) == ("created", 1, ["find", "create"])
    place.first.calls.clear()
    seen = place.publisher.publish(KEY)
    assert seen is not None
    assert (seen.action, seen.remote, seen.version, place.first.calls) == ("unchanged", made.remote, 1, ["find"])
    assert place.publisher.due(NOW) == {}


def test_a_changed_record_changes_its_copy(place: Place) -> None:
    made = place.publisher.publish(KEY)
    place.sessions.versions[KEY] = 2
    assert [why.reason for why in place.publisher.due(NOW).values()] == ["the record changed"]
    changed = place.publisher.publish(KEY)
    assert made is not None
    assert changed is not None
    assert (changed.action, changed.remote, changed.version) == ("updated", made.remote, 2)
    assert [copy.xml for copy in place.first.copies.values()] == [b"version 2"]


def test_a_copy_that_somebody_deleted_is_made_again(place: Place) -> None:
    place.publisher.publish(KEY)
    place.first.copies.clear()
    assert place.publisher.due(NOW) == {}, "nobody is asked to find out what is due"
    result = place.publisher.publish(KEY)
    assert result is not None
    assert (result.action, result.version, len(place.first.copies)) == ("created", 2, 1)
    assert place.entry().remote == result.remote


@pytest.mark.parametrize("cause", ["it lacks something", "somebody doubts it"])
def test_a_copy_in_doubt_is_sent_again_though_the_record_is_the_same(place: Place, cause: str) -> None:
    made = place.publisher.publish(KEY)
    assert made is not None
    assert made.remote is not None
    if cause == "it lacks something":
        place.first.broken = [made.remote.id]
    else:
        place.publisher.doubt(KEY)
    result = place.publisher.publish(KEY)
    assert result is not None
    assert (result.action, place.first.broken) == ("updated", [])


@pytest.mark.parametrize("is_known", [True, False])
def test_of_several_copies_one_is_kept(place: Place, is_known: bool) -> None:
    """That of the ledger, which others link to; without a ledger the oldest."""
    result = place.publisher.publish(KEY)
    assert result is not None
    assert result.remote is not None
    ours = place.first.copies[result.remote.id]
    place.first.copies |= {"0": dataclasses.replace(ours), "99": dataclasses.replace(ours)}
    if not is_known:
        place.publisher.ledger.remove(KEY)
    result = place.publisher.publish(KEY)
    assert result is not None
    assert result.surplus == 2
    assert list(place.first.copies) == ([result.remote.id] if result.remote else [])
    assert (result.remote is not None and result.remote.id == "0") is not is_known


def test_a_copy_moves_with_its_address(place: Place) -> None:
    place.publisher.publish(KEY)
    place.first.place = "there"
    place.publisher.doubt(KEY)
    result = place.publisher.publish(KEY)
    assert result is not None
    assert [copy.address for copy in place.first.copies.values()] == ["there"]
    assert (place.entry().address, place.entry().remote) == ("there", result.remote)


def test_a_change_of_the_settings_or_of_the_form_sends_everything_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publisher.publish(KEY)
    monkeypatch.setattr(Memory, "version", "2")
    assert list(place.publisher.due(NOW)) == [KEY]
    place.publisher.publish(KEY)
    assert place.publisher.due(NOW) == {}
    monkeypatch.setattr(Memory, "in_words", lambda _: "another workspace")
    assert list(place.publisher.due(NOW)) == [KEY]


@pytest.mark.parametrize("moment", ["it is read", "it is sent"])
def test_a_record_that_is_rebuilt_meanwhile_is_due_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def read_and_rebuilt(sessions: Brief, key: str, links: Mapping[str, Link]) -> Publication | None:
        monkeypatch.undo()
        read = sessions.publication(key, links)
        sessions.versions[key] = 2
        return read

    if moment == "it is read":
        monkeypatch.setattr(Brief, "publication", read_and_rebuilt)
    else:
        place.first.before = lambda what: place.sessions.versions.update({KEY: 2}) if what == "create" else None
    place.publisher.publish(KEY)
    assert [copy.xml for copy in place.first.copies.values()] == [b"version 1"]
    assert list(place.publisher.due(NOW)) == [KEY]
    place.publisher.publish(KEY)
    assert [copy.xml for copy in place.first.copies.values()] == [b"version 2"]
    assert place.publisher.due(NOW) == {}


def test_nothing_is_sent_without_a_record(place: Place) -> None:
    assert place.publisher.publish(OTHER) is None
    assert (place.first.calls, place.publisher.ledger.sessions()) == ([], [])


# Withdrawal


def test_a_withdrawn_session_is_nowhere(place: Place) -> None:
    place.publisher.publish(KEY)
    place.first.copies["77"] = dataclasses.replace(next(iter(place.first.copies.values())))
    place.sessions.withdrawn.add(KEY)
    assert list(place.publisher.due(NOW)) == [KEY]
    result = place.publisher.publish(KEY)
    assert result is not None
    assert (result.action, result.remote, place.first.copies) == ("withdrawn", None, {})
    assert (place.publisher.ledger.sessions(), place.publisher.due(NOW)) == ([], {})


def test_the_copy_of_a_session_that_lost_its_record_goes(place: Place) -> None:
    place.sessions.lost.add(KEY)
    assert place.publisher.publish(KEY) is None, "there never was a copy"
    assert place.first.calls == []
    place.sessions.lost.clear()
    place.publisher.publish(KEY)
    place.sessions.lost.add(KEY)
    assert list(place.publisher.due(NOW)) == [KEY]
    place.publisher.publish(KEY)
    assert (place.first.copies, place.publisher.ledger.sessions()) == ({}, [])


# Another server


@pytest.mark.parametrize("is_withdrawn", [True, False])
def test_what_has_a_copys_id_on_another_server_is_left_alone(place: Place, is_withdrawn: bool) -> None:
    made = place.publisher.publish(KEY)
    assert made is not None
    assert made.remote is not None
    theirs = Copy(OTHER, "here", b"theirs", {})
    place.first.copies = {made.remote.id: theirs}
    place.first.root = "https://new.example.org/"
    place.sessions.withdrawn |= {KEY} if is_withdrawn else set()
    place.publisher.doubt(KEY)
    place.publisher.publish(KEY)
    assert place.first.copies[made.remote.id] is theirs
    assert [copy.xml for copy in place.first.copies.values() if copy.key == KEY] == [b"version 1"] * (not is_withdrawn)


def test_a_copy_on_an_earlier_server_is_named_when_the_session_is_withdrawn(place: Place) -> None:
    made = place.publisher.publish(KEY)
    assert made is not None
    assert made.remote is not None
    place.first.copies, place.first.root = {}, "https://new.example.org/"
    for _ in range(2):
        place.publisher.doubt(KEY)
        place.publisher.publish(KEY)
    assert place.entry().elsewhere == (made.remote.url,)
    place.sessions.withdrawn.add(KEY)
    result = place.publisher.publish(KEY)
    assert result is not None
    assert result.elsewhere == (made.remote.url,)


@pytest.mark.parametrize("is_withdrawn", [True, False])
def test_a_copy_that_somebody_moved_is_changed_where_it_is(place: Place, is_withdrawn: bool) -> None:
    made = place.publisher.publish(KEY)
    assert made is not None
    assert made.remote is not None
    place.first.hidden = [made.remote.id]
    place.sessions.versions[KEY] = 2
    place.sessions.withdrawn |= {KEY} if is_withdrawn else set()
    result = place.publisher.publish(KEY)
    assert result is not None
    assert result.remote == (None if is_withdrawn else made.remote)
    assert [copy.xml for copy in place.first.copies.values()] == [b"version 2"] * (not is_withdrawn)


def test_a_session_that_is_withdrawn_while_it_is_sent_is_due(place: Place) -> None:
    place.first.before = lambda what: place.sessions.withdrawn.add(KEY) if what == "create" else None
    place.publisher.publish(KEY)
    assert list(place.publisher.due(NOW)) == [KEY]
    place.publisher.publish(KEY)
    assert (place.first.copies, place.publisher.ledger.sessions()) == ({}, [])


def test_a_copy_that_does_not_go_away_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.publisher.publish(KEY)
    place.sessions.withdrawn.add(KEY)
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "withdraw", lambda *_: None)
        with pytest.raises(DestinationRefusedError, match=f"of {KEY} is still there"):
            place.publisher.publish(KEY)
    assert list(place.publisher.due(NOW)) == [KEY]
    place.publisher.publish(KEY)
    assert place.first.copies == {}


# Failures


def test_a_refused_record_waits_until_it_changes_or_somebody_asks(place: Place) -> None:
    place.first.before = refused
    with pytest.raises(DestinationRefusedError):
        place.publisher.publish(KEY, run_id="r1")
    status = place.publisher.status(KEY)
    assert (status.state, status.reason, status.run_id) == ("FAILED", "element 'x' is not expected", "r1")
    assert place.publisher.ledger.outage() is None, "other sessions are not held up"
    assert place.publisher.due(NOW) == {}
    assert list(place.publisher.due(NOW, refused_too=True)) == [KEY]
    place.sessions.versions[KEY] = 2
    assert list(place.publisher.due(NOW)) == [KEY]
    place.first.before = lambda _: None
    place.publisher.publish(KEY)
    assert place.publisher.status(KEY).state == "PUBLISHED"


def test_a_refusal_by_a_destination_that_is_not_set_up_is_no_fault_of_the_record(place: Place) -> None:
    place.first.before, place.first.troubles = refused, ["there is no template"]
    with pytest.raises(DestinationRefusedError):
        place.publisher.publish(KEY)
    assert [why.reason for why in place.publisher.due(NOW).values()] == ["failed before"]


def test_in_an_outage_the_others_are_not_tried_for_a_while(place: Place) -> None:
    place.sessions.versions |= {OTHER: 1, THIRD: 1}
    place.first.before = unavailable
    for key in (KEY, OTHER):
        with pytest.raises(DestinationUnavailableError, match="no answer"):
            place.publisher.publish(key)
    place.first.before = lambda _: None
    place.first.calls.clear()
    with pytest.raises(DestinationUnavailableError, match="Not tried, since a moment ago: no answer"):
        place.publisher.publish(THIRD)
    assert place.first.calls == []
    assert list(place.publisher.due(NOW)) == [KEY, OTHER, THIRD]
    place.outage_was(ago=publishing.PAUSE)
    place.publisher.publish(OTHER)
    assert place.publisher.ledger.outage() is None
    place.publisher.publish(KEY)
    place.publisher.publish(THIRD)
    assert place.publisher.due(NOW) == {}


@pytest.mark.parametrize("kind", [DestinationUnavailableError, DestinationBusyError])
def test_a_session_at_which_the_destination_breaks_down_holds_up_no_other(
    place: Place, kind: type[DestinationUnavailableError]
) -> None:
    place.sessions.versions |= {OTHER: 1, THIRD: 1}
    poison = {KEY, OTHER} if kind is DestinationBusyError else {KEY}

    def break_down(_: str) -> None:
        raise kind("no answer")

    for _ in range(2):
        for key in list(place.publisher.due(NOW)):
            place.first.before = break_down if key in poison else lambda _: None
            with suppress(DestinationUnavailableError):
                place.publisher.publish(key)
    assert set(place.publisher.due(NOW)) == poison


def test_a_current_copy_that_could_not_be_looked_for_stays_published(place: Place) -> None:
    place.publisher.publish(KEY)
    place.first.before = unavailable
    with pytest.raises(DestinationUnavailableError):
        place.publisher.publish(KEY)
    assert place.publisher.status(KEY).state == "PUBLISHED"
    assert not place.publisher.failed(KEY)
    assert due_at("linking", place.publishers, "first_success", NOW) == {}


def test_a_full_disk_is_told_and_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", full)
        with pytest.raises(OSError, match="No space"):
            place.publisher.publish(KEY)
    assert place.first.copies == {}, "without an intent nothing is sent"
    assert list(place.publisher.due(NOW)) == [KEY]


# Links


def test_a_missing_link_is_added_when_it_appears(place: Place) -> None:
    place.publishers[1].publish(KEY)
    assert [copy.links for copy in place.second.copies.values()] == [{}]
    made = place.publishers[0].publish(KEY)
    assert [why.reason for why in place.publishers[1].due(NOW).values()] == ["the record changed"]
    result = place.publishers[1].publish(KEY)
    assert made is not None
    assert made.remote is not None
    assert result is not None
    assert result.action == "updated"
    assert [copy.links for copy in place.second.copies.values()] == [{"memory": made.remote.url}]


def test_a_first_copy_waits_a_while_for_the_copy_that_it_links_to(place: Place) -> None:
    linking = place.publishers[1]
    soon, late = NOW + publishing.WAIT_FOR_LINK, NOW + publishing.WAIT_FOR_LINK * 1.01
    place.sessions.built = NOW
    assert (linking.due(soon), list(linking.due(late))) == ({}, [KEY])
    place.first.before = refused
    with pytest.raises(DestinationRefusedError):
        place.publisher.publish(KEY)
    assert list(linking.due(soon)) == [KEY], "there is nothing to wait for"


def test_a_session_that_is_being_built_is_not_sent(place: Place) -> None:
    place.sessions.unsettled.add(KEY)
    assert place.publisher.due(NOW) == {}
    place.sessions.withdrawn.add(KEY)
    place.publisher.ledger.write(Entry(key=KEY))
    assert list(place.publisher.due(NOW)) == [KEY], "a withdrawal does not wait"


# Strategies


def test_by_first_success_the_next_destination_is_for_sessions_that_the_others_failed_to_take(place: Place) -> None:
    def due(strategy: str) -> list[str]:
        return list(due_at("linking", place.publishers, strategy, NOW))

    assert (due("all"), due("best_effort"), due("first_success")) == ([KEY], [KEY], [])
    place.first.before = refused
    with pytest.raises(DestinationRefusedError):
        place.publisher.publish(KEY)
    assert due("first_success") == [KEY]


def test_by_first_success_a_failed_try_claims_no_copy(place: Place) -> None:
    """Not even once the destination before has taken the session after all."""
    place.publishers[1].ledger.write(Entry(key=KEY))
    place.publisher.publish(KEY)
    assert due_at("linking", place.publishers, "first_success", NOW) == {}
    place.sessions.withdrawn.add(KEY)
    assert list(due_at("linking", place.publishers, "first_success", NOW)) == [KEY], "what is known of it must go"


@settings(deadline=None, max_examples=40)
@given(
    strategy=st.sampled_from(STRATEGIES),
    states=st.lists(st.sampled_from(["PUBLISHED", "FAILED", "WAITING", "OUTDATED"]), min_size=2, max_size=2),
)
def test_what_counts_as_published(tmp_path_factory: pytest.TempPathFactory, strategy: str, states: list[str]) -> None:
    place = Place(tmp_path_factory.mktemp("status"))
    for publisher, state in zip(place.publishers, states, strict=True):
        if state == "OUTDATED":
            place.sessions.versions[KEY] = 0
            publisher.publish(KEY)
            place.sessions.versions[KEY] = 1
    for publisher, state in zip(place.publishers, states, strict=True):
        if state == "PUBLISHED":
            publisher.publish(KEY)
        elif state == "FAILED":
            publisher.destination.before = unavailable  # type: ignore[attr-defined]
            with pytest.raises(DestinationUnavailableError):
                publisher.publish(KEY)
    status = status_of(place.publishers, strategy, KEY)
    enough = all if strategy == "all" else any
    is_published = enough(state == "PUBLISHED" for state in states)
    assert status.published is is_published
    if not is_published:
        assert status.state == ("FAILED" if "FAILED" in states else "WAITING")


# All at once


class Life(RuleBasedStateMachine):
    """Sessions change and go, servers fail anywhere, copies get lost; the pipeline publishes what is due."""

    folder: ClassVar[Path]
    sites = 0

    @initialize(strategy=st.sampled_from(STRATEGIES))
    def begin(self, strategy: Literal["all", "first_success", "best_effort"]) -> None:
        Life.sites += 1
        self.place = Place(self.folder / str(Life.sites))
        self.strategy = strategy

    keys = st.sampled_from([KEY, OTHER])
    which = st.sampled_from([0, 1])

    @rule(key=keys)
    def build(self, key: str) -> None:
        versions = self.place.sessions.versions
        versions[key] = versions.get(key, 0) + 1

    @rule(key=keys)
    def withdraw(self, key: str) -> None:
        self.place.sessions.withdrawn.add(key)

    @rule(key=keys)
    def allow_again(self, key: str) -> None:
        self.place.sessions.withdrawn.discard(key)

    @rule(which=which)
    def lose_a_copy(self, which: int) -> None:
        copies = [self.place.first, self.place.second][which].copies
        if copies:
            key = copies.pop(next(iter(copies))).key
            self.place.publishers[which].doubt(key)

    @rule(which=which, step=st.integers(1, 9), is_done=st.booleans(), kind=st.sampled_from([
        DestinationUnavailableError, DestinationRefusedError, KeyboardInterrupt,
    ]))  # fmt: skip
    def publish_with_a_fault(self, which: int, step: int, is_done: bool, kind: type[BaseException]) -> None:
        left = [step]

        def fail(_: str) -> None:
            left[0] -= 1
            if not left[0]:
                raise kind("fault")

        destination = [self.place.first, self.place.second][which]
        setattr(destination, "after" if is_done else "before", fail)
        self._publish(which)
        destination.before = destination.after = lambda _: None

    @rule(which=which)
    def publish(self, which: int) -> None:
        self._publish(which)

    def _publish(self, which: int, *, refused_too: bool = False) -> None:
        publisher = self.place.publishers[which]
        due = due_at(publisher.destination.name, self.place.publishers, self.strategy, NOW, refused_too=refused_too)
        for key in due:
            publisher.ledger.end_outage()
            try:
                publisher.publish(key)
            except (DestinationError, KeyboardInterrupt):
                continue

    @precondition(lambda self: hasattr(self, "place"))
    @invariant()
    def whatever_counts_as_published_is_there_once(self) -> None:
        for publisher, destination in zip(self.place.publishers, (self.place.first, self.place.second), strict=True):
            for key, version in self.place.sessions.versions.items():
                if publisher.status(key).state == "PUBLISHED":
                    assert [c.xml for c in destination.copies.values() if c.key == key] == [
                        f"version {version}".encode()
                    ]

    def teardown(self) -> None:
        if not hasattr(self, "place"):
            return
        for _ in range(2):
            self._publish(0, refused_too=True)
            self._publish(1, refused_too=True)
        sessions = self.place.sessions
        for publisher, destination in zip(self.place.publishers, (self.place.first, self.place.second), strict=True):
            assert due_at(publisher.destination.name, self.place.publishers, self.strategy, NOW) == {}
            kept = sorted(copy.key for copy in destination.copies.values())
            assert publisher.ledger.sessions() == kept
            if destination is self.place.first or self.strategy != "first_success":
                assert kept == sessions.sessions()
        for key in sessions.sessions():
            assert status_of(self.place.publishers, self.strategy, key).state == "PUBLISHED"


def test_whatever_happens_it_comes_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setattr(Life, "folder", tmp_path, raising=False)
    run_state_machine_as_test(Life, settings=settings(max_examples=60, stateful_step_count=15, deadline=None))
