"""LabArchives, before a stand-in that keeps pages, entries and revisions and checks every signature."""

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from labarchives_server import (
    ADA_NOTEBOOK,
    ADA_UID,
    PASSWORD,
    SERVICE_NOTEBOOK,
    SERVICE_UID,
    Entry,
    LabarchivesServer,
    Node,
)
from publications import ADA, KEY, publication

from nexuslims_pipeline.configuration import load_settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Link, Publication
from resources.destinations import labarchives
from resources.destinations.base import DestinationRefusedError, DestinationUnavailableError, Remote
from resources.destinations.labarchives import Labarchives, page_url, read_users

Configure = Callable[..., Labarchives]


@pytest.fixture
def server() -> Iterator[LabarchivesServer]:
    with LabarchivesServer() as running:
        yield running


@pytest.fixture
def configure(server: LabarchivesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    monkeypatch.setattr(labarchives, "SECONDS_BETWEEN_CALLS", 0.0)

    def make(**variables: str) -> Labarchives:
        (tmp_path / "raw").mkdir(exist_ok=True)
        site = {"NX_INSTRUMENT_DATA_PATH": str(tmp_path / "raw"), "NX_DATA_PATH": str(tmp_path / "data")}
        for name, value in (site | server.variables(server.url) | variables).items():
            monkeypatch.setenv(name, value)
        made = Labarchives.configured(load_settings(env_file=None))
        assert made is not None
        return made

    return make


@pytest.fixture
def destination(configure: Configure) -> Labarchives:
    return configure()


@pytest.fixture
def session(tmp_path: Path) -> Publication:
    return publication(tmp_path / "datasets")


def users_file(folder: Path, text: str = f'ada: {{uid: "{ADA_UID}", notebook: "{ADA_NOTEBOOK}"}}\n') -> str:
    (folder / "users.yaml").write_text(text)
    return str(folder / "users.yaml")


def text_of(server: LabarchivesServer, key: str = KEY) -> str:
    """The one text entry of ours on the one page of a session."""
    (page,) = server.pages(key)
    (text,) = [e for e in server.on(page, "text entry") if b"Kept by nexuslims" in e.content]
    return text.content.decode()


class TestPages:
    def test_session_becomes_a_page_with_text_and_record(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)

        assert server.copies(KEY) == [session.xml]
        assert [n.name for n in server.nodes.values()] == ["NexusLIMS Records", "Demo-Quanta-SEM", KEY]
        assert "Grain boundaries" in text_of(server)
        assert text_of(server).count("data:image/png;base64,") == 3
        assert destination.find(KEY, SERVICE_NOTEBOOK) == [remote]
        (page,) = server.pages(KEY)
        assert remote.url == f"{server.url.removesuffix('/api')}/#/{SERVICE_NOTEBOOK}/{quote(page, safe='=')}"

    def test_another_session_is_not_taken_for_it(
        self, destination: Labarchives, session: Publication, tmp_path: Path
    ) -> None:
        longer = publication(tmp_path / "datasets", key=f"{KEY}4")

        remotes = [destination.create(session), destination.create(longer)]

        assert [destination.find(p.key, SERVICE_NOTEBOOK) for p in (session, longer)] == [[r] for r in remotes]

    def test_update_replaces_text_and_record_on_the_same_page(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, tmp_path: Path
    ) -> None:
        remote = destination.create(session)
        newer = publication(tmp_path / "datasets", title="Triple junctions", datasets=2)

        assert destination.update(remote, newer) == remote

        assert server.copies(KEY) == [newer.xml]
        assert "Triple junctions" in text_of(server)
        assert "Grain boundaries" not in text_of(server)
        assert [len(e.revisions) for e in server.entries.values()] == [2, 2]

    def test_link_that_comes_later_changes_the_text_alone(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, tmp_path: Path
    ) -> None:
        remote = destination.create(session)
        links = {"cdcs": Link("CDCS record", "https://cdcs.example.org/data?id=4&x=1")}

        destination.update(remote, publication(tmp_path / "datasets", links=links))

        assert 'href="https://cdcs.example.org/data?id=4&amp;x=1"' in text_of(server)
        assert [len(e.revisions) for e in server.entries.values()] == [2, 1]

    def test_update_finds_its_entries_in_html_that_was_tidied(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        server.tidies = True
        remote = destination.create(session)

        destination.update(remote, session)

        assert "Grain boundaries" in text_of(server)
        assert server.copies(KEY) == [session.xml]

    def test_what_people_add_stays(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)
        (page,) = server.pages(KEY)
        notes = [
            Entry(page, "text entry", [b"<p>Sample 4 broke.</p>"]),
            Entry(page, "Attachment", [b"<mine/>"], "my corrections", f"{KEY}.xml"),
        ]
        server.entries |= {f"note{n}": note for n, note in enumerate(notes)}
        server.nodes[page].name += " weld, first try"

        destination.update(*destination.find(KEY, SERVICE_NOTEBOOK), session)
        destination.withdraw(remote)

        assert [len(note.revisions) for note in notes] == [1, 1]

    def test_folders_of_one_name_are_all_looked_into(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        server.nodes |= {
            "r1": Node(SERVICE_NOTEBOOK, "0", "NexusLIMS Records", False),
            "r2": Node(SERVICE_NOTEBOOK, "0", "NexusLIMS Records", False),
            "i2": Node(SERVICE_NOTEBOOK, "r2", "Demo-Quanta-SEM", False),
            "p2": Node(SERVICE_NOTEBOOK, "i2", KEY, True),
        }

        made = destination.create(session)

        ids = [remote.id for remote in destination.find(KEY, SERVICE_NOTEBOOK)]
        assert ids == [made.id, f"{SERVICE_NOTEBOOK}:p2"]

    def test_hostile_names_arrive_as_text(
        self, server: LabarchivesServer, destination: Labarchives, tmp_path: Path
    ) -> None:
        title = "<script>alert(1)</script> & 'µ' \x00\ud800 %2B+"
        hostile = publication(tmp_path / "datasets", title=title, names=['a"><img src=x>.tif', "b & ü.tif"])

        remote = destination.create(hostile)
        destination.update(remote, hostile)

        assert "<script" not in text_of(server)
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; " in text_of(server)
        assert "<img src=x>" not in text_of(server)
        assert [len(e.revisions) for e in server.entries.values()] == [1, 1]

    def test_record_that_is_too_large_is_left_out_and_comes_when_it_fits(
        self, server: LabarchivesServer, configure: Configure, session: Publication, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(labarchives, "SURELY_ACCEPTED", 100)
        remote = configure().create(session)
        server.largest = len(session.xml) - 1

        too_large = configure()
        too_large.update(remote, session)
        assert "is not attached" in text_of(server)
        assert session.xml not in server.everything()

        server.largest = len(session.xml)
        configure().update(remote, session)
        assert "is not attached" not in text_of(server)
        assert server.copies(KEY) == [session.xml]

    def test_calls_per_session(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, tmp_path: Path
    ) -> None:
        def calls(act: Callable[[], object]) -> int:
            server.calls.clear()
            act()
            return len(server.calls)

        def found(p: Publication = session) -> list[Remote]:
            return destination.find(p.key, SERVICE_NOTEBOOK)

        other = publication(tmp_path / "datasets", key=f"{KEY}7")
        newer = publication(tmp_path / "datasets", title="newer")

        first = calls(lambda: found() or destination.create(session))
        second = calls(lambda: found(other) or destination.create(other))
        unchanged = calls(found)
        changed = calls(lambda: destination.update(found()[0], newer))

        assert (first, second, unchanged, changed) == (10, 8, 3, 6)


class TestAccounts:
    def test_users_of_the_table_have_their_own_notebook_and_others_the_service_account(
        self, server: LabarchivesServer, configure: Configure, session: Publication, tmp_path: Path
    ) -> None:
        destination = configure(NX_LABARCHIVES_USERS_FILE=users_file(tmp_path))
        bob = ADA.model_copy(update={"username": "bob"})
        of_bob = publication(tmp_path / "datasets", key=f"{KEY}1", user=bob)
        of_nobody = publication(tmp_path / "datasets", key=f"{KEY}2", user=None)

        published = (session, of_bob, of_nobody)
        addresses = [destination.address(p) for p in published]
        remotes = [destination.create(p) for p in published]

        assert addresses == [ADA_NOTEBOOK, SERVICE_NOTEBOOK, SERVICE_NOTEBOOK]
        assert [next(iter(server.pages(p.key).values())).notebook for p in published] == addresses
        assert [destination.find(p.key, a) for p, a in zip(published, addresses, strict=True)] == [[r] for r in remotes]

    def test_user_changed_in_nemo_moves_the_page(
        self, server: LabarchivesServer, configure: Configure, session: Publication, tmp_path: Path
    ) -> None:
        destination = configure(NX_LABARCHIVES_USERS_FILE=users_file(tmp_path))
        destination.create(session)
        bob = publication(tmp_path / "datasets", user=ADA.model_copy(update={"username": "bob"}))

        assert destination.address(session) != destination.address(bob)
        for copy in destination.find(KEY, destination.address(session)):
            destination.withdraw(copy)
        destination.create(bob)

        assert destination.find(KEY, ADA_NOTEBOOK) == []
        assert [node.notebook for node in server.pages(KEY).values()] == [SERVICE_NOTEBOOK]

    def test_without_an_address_all_notebooks_are_looked_into(
        self, configure: Configure, session: Publication, tmp_path: Path
    ) -> None:
        destination = configure(NX_LABARCHIVES_USERS_FILE=users_file(tmp_path))
        remote = destination.create(session)

        assert destination.find(KEY, "") == [remote]

    def test_notebook_of_a_user_who_left_the_table(self, destination: Labarchives) -> None:
        with pytest.raises(DestinationRefusedError, match="NX_LABARCHIVES_USERS_FILE"):
            destination.find(KEY, ADA_NOTEBOOK)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("ada: {uid: s3cret-uid}", "ada notebook: Field required"),
            ("ada: {uid: 77123456, notebook: n}", "ada uid: Input should be a valid string"),
            ("ada: {uid: s3cret-uid, notebook: n, notbook: s3cret-uid}", "ada notbook: Extra inputs"),
            ("ada: {uid: a, notebook: n}\nada: {uid: s3cret-uid, notebook: n}", "line 2: 'ada' stands twice"),
            ("- s3cret-uid", "valid dictionary"),
            ("ada: {uid: 's3cret-uid", "line 1: this is no valid YAML"),
        ],
    )
    def test_mistakes_in_the_table_are_named_without_its_secrets(self, text: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=said) as caught:
            read_users(Path(users_file(tmp_path, text)))

        assert "s3cret" not in str(caught.value)
        assert "77123456" not in str(caught.value)

    def test_empty_table_is_one_without_users(self, tmp_path: Path) -> None:
        assert read_users(Path(users_file(tmp_path, "# nobody yet\n"))) == {}


class TestSettings:
    def test_half_set_names_what_is_missing(self, configure: Configure) -> None:
        with pytest.raises(ConfigurationError, match="set NX_LABARCHIVES_USER_ID too"):
            configure(NX_LABARCHIVES_USER_ID="")

    def test_none_without_its_variables(self, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
        configure()
        for name in ("ACCESS_KEY_ID", "ACCESS_PASSWORD", "USER_ID", "NOTEBOOK_ID"):
            monkeypatch.delenv(f"NX_LABARCHIVES_{name}")

        assert Labarchives.configured(load_settings(env_file=None)) is None

    def test_nothing_that_is_kept_or_shown_has_secrets(
        self, configure: Configure, session: Publication, tmp_path: Path
    ) -> None:
        destination = configure(NX_LABARCHIVES_USERS_FILE=users_file(tmp_path))
        shown = [destination.in_words(), destination.address(session), str(destination.create(session))]
        shown += [repr(value) for value in vars(destination).values()]

        assert not [text for text in shown for secret in (PASSWORD, SERVICE_UID, ADA_UID) if secret in text]

    def test_check(self, server: LabarchivesServer, configure: Configure) -> None:
        assert configure().check() == []
        assert "NX_LABARCHIVES_ACCESS_PASSWORD" in configure(NX_LABARCHIVES_ACCESS_PASSWORD="wrong").check()[0]
        assert "error 4506" in configure(NX_LABARCHIVES_ACCESS_KEY_ID="wrong").check()[0]
        assert "service account" in configure(NX_LABARCHIVES_USER_ID="wrong").check()[0]
        assert "not permit" in configure(NX_LABARCHIVES_NOTEBOOK_ID=ADA_NOTEBOOK).check()[0]
        assert "NX_LABARCHIVES_URL" in configure(NX_LABARCHIVES_URL=server.url[: -len("/api")]).check()[0]
        assert server.nodes == {}

    @pytest.mark.parametrize(
        ("api", "shown"),
        [
            ("https://api.labarchives.com/api", "https://mynotebook.labarchives.com/#/n%2F1=/p%2B"),
            ("https://auapi.labarchives.com/api", "https://au-mynotebook.labarchives.com/#/n%2F1=/p%2B"),
            ("https://api.labarchives-gov.com/api", "https://mynotebook.labarchives-gov.com/#/n%2F1=/p%2B"),
            ("https://eln.example.org/lab/api/", "https://eln.example.org/lab/#/n%2F1=/p%2B"),
        ],
    )
    def test_page_for_people(self, api: str, shown: str) -> None:
        assert page_url(api, "n/1=", "p+") == shown


class TestTrouble:
    @pytest.mark.parametrize(
        "lost", ["tree_tools/insert_node", "entries/add_entry", "entries/add_attachment", "tree_tools/get_tree_level"]
    )
    def test_lost_reply_then_again_ends_in_one_page(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, lost: str
    ) -> None:
        server.lost = [lost]
        for _ in range(3):
            try:
                found = destination.find(KEY, SERVICE_NOTEBOOK)
                remote = destination.update(found[0], session) if found else destination.create(session)
                break
            except DestinationUnavailableError:
                continue

        assert destination.find(KEY, SERVICE_NOTEBOOK) == [remote]
        assert server.copies(KEY) == [session.xml]
        assert len(server.nodes) == 3
        assert len(server.entries) == 2

    def test_entries_that_arrived_twice_are_merged(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)
        twice = {
            f"again{n}": Entry(e.page, e.part_type, list(e.revisions), e.caption, e.file_name)
            for n, e in enumerate(server.entries.values())
        }
        server.entries |= twice

        destination.update(remote, session)
        calls = len(server.calls)
        destination.update(remote, session)

        assert len(server.calls) == calls + 1
        assert server.copies(KEY) == [session.xml]
        assert server.everything().count(b"Grain boundaries</h2>") == 1

    @pytest.mark.parametrize("status", [200, 401, 404, 503])
    def test_wrong_secret_is_permanent_whatever_the_status(
        self,
        server: LabarchivesServer,
        configure: Configure,
        session: Publication,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server.error_status = status
        wrong = "an0ther secret"

        with pytest.raises(DestinationRefusedError, match=r"4520.*NX_LABARCHIVES_ACCESS_PASSWORD") as caught:
            configure(NX_LABARCHIVES_ACCESS_PASSWORD=wrong).create(session)

        told = f"{caught.value!r} {caught.value.__context__!r} {caplog.text}"
        for secret in (wrong, SERVICE_UID, quote(SERVICE_UID, safe=""), "sig=", "=="):
            assert secret not in told
        assert server.calls.count("tree_tools/get_tree_level") == 1

    def test_revoked_uid_is_told_without_it(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        del server.notebooks[SERVICE_UID]

        with pytest.raises(DestinationRefusedError, match=r"service account .*session timed out for uid … ") as caught:
            destination.create(session)

        assert SERVICE_UID not in str(caught.value)

    @pytest.mark.parametrize("ahead", [-7200.0, -100.0, 100.0, 86400.0])
    def test_skewed_clock_is_asked_for_once(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, ahead: float
    ) -> None:
        server.ahead = ahead

        destination.create(session)
        destination.update(*destination.find(KEY, SERVICE_NOTEBOOK), session)

        assert server.copies(KEY) == [session.xml]
        assert server.calls.count("utilities/epoch_time") <= 1
        if abs(ahead) > 200:
            assert "utilities/epoch_time" in server.calls

    def test_clock_that_is_set_while_we_run(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        for ahead in (600.0, -600.0, 0.0):
            server.ahead = ahead
            assert destination.check() == []

    @pytest.mark.parametrize(
        ("status", "content"),
        [
            (200, b"<html><body>Please log in</body></html>"),
            (200, b"<!DOCTYPE html><p>Please log in"),
            (200, b"<tree-tools><level-nodes type='array'><level-no"),
            (200, b'<!DOCTYPE a [<!ENTITY b "c">]><tree-tools>&b;</tree-tools>'),
            (200, b"<tree-tools><level-nodes><level-node><tree-id/></level-node></level-nodes></tree-tools>"),
            (200, b""),
            (429, b"slow down"),
            (500, b"something went wrong"),
            (500, b"<error><error-code>4999</error-code><error-description>Unknown Error</error-description></error>"),
        ],
    )
    def test_answer_that_tells_nothing_is_no_empty_notebook(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, status: int, content: bytes
    ) -> None:
        server.instead = {"tree_tools/get_tree_level": (status, content)}

        with pytest.raises(DestinationUnavailableError):
            destination.create(session)

        assert server.nodes == {}
        assert len(server.calls) == 1

    def test_workers_keep_one_pace(
        self, server: LabarchivesServer, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure()
        monkeypatch.setattr(labarchives, "SECONDS_BETWEEN_CALLS", 0.1)

        first, second = configure(), configure()
        for _ in range(3):
            first.check()
            second.check()

        assert all(later - earlier > 0.05 for earlier, later in pairwise(server.starts))


class TestWithdrawal:
    def test_nothing_of_the_session_is_shown_afterwards(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)

        destination.withdraw(remote)

        assert destination.find(KEY, SERVICE_NOTEBOOK) == []
        assert server.copies(KEY) == []
        for trace in (KEY, "Grain boundaries", "Adeyemi", "image 0", "data:image"):
            assert trace.encode() not in server.everything()

    @pytest.mark.parametrize("lost", ["entries/update_entry", "entries/update_attachment", "tree_tools/update_node"])
    def test_cut_off_and_begun_again(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, lost: str
    ) -> None:
        remote = destination.create(session)
        server.instead = {lost: (500, b"")}
        with pytest.raises(DestinationUnavailableError):
            destination.withdraw(remote)
        assert destination.find(KEY, SERVICE_NOTEBOOK) == [remote]

        destination.withdraw(remote)
        destination.withdraw(remote)

        assert destination.find(KEY, SERVICE_NOTEBOOK) == []
        assert [len(e.revisions) for e in server.entries.values()] == [2, 2]

    def test_page_that_was_moved_is_known_by_what_is_on_it(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)
        (page,) = server.pages(KEY)
        server.nodes[page].name = "My weld"
        assert destination.find(KEY, SERVICE_NOTEBOOK) == []
        assert destination.is_copy(remote, KEY)
        assert not destination.is_copy(remote, KEY[:-1])

        destination.withdraw(remote)

        assert not destination.is_copy(remote, KEY)
        server.clear()
        assert not destination.is_copy(remote, KEY)

    def test_half_withdrawn_page_is_filled_again(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)
        server.instead = {"tree_tools/update_node": (500, b"")}
        with pytest.raises(DestinationUnavailableError):
            destination.withdraw(remote)

        destination.update(remote, session)

        assert server.copies(KEY) == [session.xml]
        assert "Grain boundaries" in text_of(server)

    @pytest.mark.parametrize("status", [200, 404])
    def test_page_that_people_deleted_is_no_error(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication, status: int
    ) -> None:
        remote = destination.create(session)
        server.clear()
        server.error_status = status

        destination.withdraw(remote)

    def test_page_that_may_not_be_read_is_one(
        self, server: LabarchivesServer, destination: Labarchives, session: Publication
    ) -> None:
        remote = destination.create(session)
        server.notebooks[SERVICE_UID] = set()

        with pytest.raises(DestinationRefusedError, match="not permit"):
            destination.withdraw(remote)
