"""CDCS, before a real CDCS 2.23: one record per session, with its owner, workspace, identifier and files."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from cdcs_server import CdcsNotInstalledError, CdcsProcess, content
from publications import ADA, KEY, publication
from pydantic import SecretStr

from nexuslims_pipeline.configuration import load_settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Publication
from resources.destinations.base import DestinationRefusedError, DestinationUnavailableError
from resources.destinations.cdcs import Account, Cdcs, Choices, account_of, is_same
from resources.ledger import Entry, Ledger
from resources.publishing import Publisher
from resources.web import Patience

pytestmark = pytest.mark.server

SWIFT = Patience(connect=5, read=60, total=60, pauses=(0.01,))
NARROW = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="https://data.nist.gov/od/dm/nexus/'
    'experiment/v1.0"><xs:element name="Experiment"><xs:complexType><xs:attribute name="pid"/></xs:complexType>'
    "</xs:element></xs:schema>"
)
"""A schema of records without content."""
Fault = Callable[["Handler"], None]


def started(database: Literal["sqlite", "postgres"] = "sqlite", *, full: bool = False) -> CdcsProcess:
    try:
        return CdcsProcess(database=database, full=full)
    except CdcsNotInstalledError as error:
        if os.environ.get("CI") == "true" and database == "sqlite":
            raise
        pytest.skip(f"CDCS cannot run here: {error}")


@pytest.fixture(scope="module")
def server() -> Iterator[CdcsProcess]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def full_server() -> Iterator[CdcsProcess]:
    with started(full=True) as running:
        yield running


@pytest.fixture
def cdcs(server: CdcsProcess) -> CdcsProcess:
    """A CDCS without records."""
    server.clear()
    return server


@pytest.fixture
def proxy(cdcs: CdcsProcess) -> Iterator["Proxy"]:
    with Proxy(cdcs.url) as running:
        yield running


@pytest.fixture
def session(tmp_path: Path) -> Publication:
    return publication(tmp_path / "datasets", title="Grains — 5 µm, après étuvage")


@pytest.fixture
def rebuilt(tmp_path: Path) -> Publication:
    return publication(tmp_path / "datasets", title="Triple junctions", datasets=2)


def destination(cdcs: CdcsProcess, url: str = "", token: str = CdcsProcess.token, **choices: Any) -> Cdcs:
    return Cdcs(url or cdcs.url, SecretStr(token), Choices(**choices), patience=SWIFT)


class Handler(BaseHTTPRequestHandler):
    """One request: the next fault for its method, or what CDCS answers."""

    server: "Proxy"
    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(f"{self.command} {self.path.partition('?')[0]}")
        fault = self.server.faults.pop(self.command, None)
        (fault or Handler.pass_on)(self)

    do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815 - the names that http.server looks for

    def forward(self) -> requests.Response:
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        return requests.request(
            self.command, self.server.behind + self.path[1:], data=self.body, headers=headers, timeout=60
        )

    def pass_on(self) -> None:
        answer = self.forward()
        self.answer(answer.status_code, answer.content)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    """A server in front of CDCS that fails when told to: once, at the next request of a method."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.faults: dict[str, Fault] = {}
        self.seen: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()


def lost_reply(handler: Handler) -> None:
    handler.forward()
    handler.close_connection = True


def instead(status: int, body: bytes) -> Fault:
    return lambda handler: handler.answer(status, body)


class OneSession:
    """A store with one session, as the publisher sees it."""

    def __init__(self, folder: Path, destination: Cdcs, record: Publication) -> None:
        self.record = record
        self.withdrawn = False
        ledgers = {"cdcs": Ledger(folder / "exports" / "cdcs")}
        self.publisher = Publisher(destination, ledgers, {"cdcs": "CDCS record"}, self)

    def publish(self) -> tuple[str, str]:
        """What was done, and the id of the copy."""
        result = self.publisher.publish(self.record.key)
        assert result is not None
        return result.action, result.remote.id if result.remote else ""

    def sessions(self) -> list[str]:
        return [self.record.key]

    def content(self, key: str, stages: object) -> str:
        return self.record.xml.decode()

    def built_at(self, key: str) -> datetime | None:
        return None

    def is_settled(self, key: str) -> bool:
        return True

    def is_withdrawn(self, key: str) -> bool:
        return self.withdrawn

    def has_lost_its_record(self, key: str) -> bool:
        return False

    def publication(self, key: str, links: object) -> Publication:
        return self.record


class TestOneCopy:
    def test_record_is_made_once_then_changed_in_place_and_at_last_removed(
        self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs), session)

        first = store.publish()
        assert (first[0], store.publish()) == ("created", ("unchanged", first[1]))
        assert cdcs.copies(KEY) == [session.xml]

        store.record = rebuilt
        assert store.publish() == ("updated", first[1])
        assert cdcs.copies(KEY) == [rebuilt.xml]

        store.withdrawn = True
        assert store.publish() == ("withdrawn", "")
        assert cdcs.records() == []

    def test_record_that_was_deleted_on_the_server_is_made_again(
        self, cdcs: CdcsProcess, session: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs), session)
        _, first = store.publish()
        cdcs.ask("DELETE", f"rest/data/{first}/")

        action, second = store.publish()

        assert (action, cdcs.copies(KEY)) == ("created", [session.xml])
        assert second != first

    def test_record_that_somebody_renamed_is_changed_in_place(
        self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs), session)
        _, first = store.publish()
        cdcs.ask("PATCH", f"rest/data/{first}/", json={"title": "My weld"})
        store.record = rebuilt

        assert store.publish() == ("updated", first)
        assert cdcs.copies(KEY) == [rebuilt.xml]

        cdcs.ask("PATCH", f"rest/data/{first}/", json={"title": "My weld"})
        store.withdrawn = True
        assert store.publish() == ("withdrawn", "")
        assert cdcs.records() == []

    @pytest.mark.parametrize("is_withdrawn", [True, False])
    def test_another_sessions_record_under_the_number_is_left_alone(
        self, cdcs: CdcsProcess, session: Publication, tmp_path: Path, is_withdrawn: bool
    ) -> None:
        """As on another server, or after this one was set back to an older state."""
        others = destination(cdcs).create(publication(tmp_path / "datasets", key=f"{KEY}4"))
        (theirs,) = cdcs.records()
        store = OneSession(tmp_path, destination(cdcs), session)
        gone = others.model_copy(update={"url": "https://old.example.org/data?id=1"})
        store.publisher.ledger.write(Entry(key=KEY, remote=gone, fingerprint="earlier"))
        store.withdrawn = is_withdrawn

        store.publish()

        assert theirs in cdcs.records()
        assert len(cdcs.copies(KEY)) == (not is_withdrawn)

    def test_files_of_a_record_that_somebody_deleted_go_with_the_session(
        self, cdcs: CdcsProcess, session: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs, blobs=True), session)
        for withdrawn in (False, True):
            store.withdrawn = False
            _, number = store.publish()
            cdcs.ask("DELETE", f"rest/data/{number}/")
            assert len(cdcs.blobs()) == 3
            store.withdrawn = withdrawn
            store.publish()
            assert len(cdcs.records()) == (not withdrawn)
            assert len(cdcs.blobs()) == (0 if withdrawn else 3)

    def test_lost_reply_to_the_creation_leaves_one_copy(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs, proxy.url), session)
        proxy.faults["POST"] = lost_reply

        with pytest.raises(DestinationUnavailableError):
            store.publish()
        store.publisher.ledger.end_outage()
        (copy,) = cdcs.records()

        assert store.publish() == ("updated", str(copy["id"]))
        assert cdcs.records() == [copy]
        assert proxy.seen.count("POST /rest/data/") == 1

    def test_lost_replies_to_change_and_removal_are_got_over_at_once(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication, rebuilt: Publication, tmp_path: Path
    ) -> None:
        store = OneSession(tmp_path, destination(cdcs, proxy.url), session)
        _, first = store.publish()

        store.record = rebuilt
        proxy.faults["PATCH"] = lost_reply
        assert store.publish() == ("updated", first)
        assert cdcs.copies(KEY) == [rebuilt.xml]

        store.withdrawn = True
        proxy.faults["DELETE"] = lost_reply
        assert store.publish() == ("withdrawn", "")
        assert cdcs.records() == []

    def test_oldest_of_several_is_found_first_whoever_owns_it_and_wherever_it_is(
        self, cdcs: CdcsProcess, session: Publication
    ) -> None:
        ours = destination(cdcs)
        copies = [ours.create(session), destination(cdcs, workspace=None).create(session), ours.create(session)]
        visitor = next(user["id"] for user in cdcs.ask("GET", "rest/user/") if user["username"] == "visitor")
        cdcs.ask("PATCH", f"rest/data/{copies[0].id}/change-owner/{visitor}")

        assert ours.find(KEY, "") == copies

    def test_record_of_somebody_else_with_the_same_title_is_left_alone(
        self, cdcs: CdcsProcess, session: Publication
    ) -> None:
        for xml in (
            session.xml.replace(f'pid="{KEY}"'.encode(), f'pid="{KEY}5"'.encode()),
            session.xml.replace(f'pid="{KEY}"'.encode(), b"").replace(b'pid="Demo-Quanta-SEM"', b'pid="Other"'),
        ):
            cdcs.ask("POST", "rest/data/", json={"title": KEY, "template": 1, "xml_content": xml.decode()})

        assert destination(cdcs).find(KEY, "") == []

    def test_four_threads_send_their_sessions_with_one_object(self, cdcs: CdcsProcess, tmp_path: Path) -> None:
        ours = destination(cdcs, user_owned=True)
        records = [publication(tmp_path, key=f"{KEY}{n}", user=ADA) for n in range(12)]

        with ThreadPoolExecutor(4) as pool:
            remotes = list(pool.map(ours.create, records))

        assert sorted(record["title"] for record in cdcs.records()) == sorted(record.key for record in records)
        assert [ours.find(record.key, "") for record in records] == [[remote] for remote in remotes]
        assert len({record["user_id"] for record in cdcs.records()}) == 1


class TestContent:
    def test_text_survives(self, cdcs: CdcsProcess, session: Publication) -> None:
        remote = destination(cdcs).create(session)

        page = requests.get(f"{cdcs.url}rest/data/download/{remote.id}/", timeout=60)

        assert "Grains — 5 µm, après étuvage".encode() in session.xml
        assert page.content == session.xml
        assert remote.url == f"{cdcs.url}data?id={remote.id}"
        assert requests.get(remote.url, timeout=60).status_code == 200

    def test_record_that_is_not_valid_is_refused_with_the_reason_and_sent_once(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication
    ) -> None:
        wrong = replace(session, xml=session.xml.replace(b"<title>", b"<colour/><title>"))

        with pytest.raises(DestinationRefusedError, match=r"colour.*not expected"):
            destination(cdcs, proxy.url).create(wrong)

        assert [line for line in proxy.seen if line.startswith("POST")] == ["POST /rest/data/"]
        assert cdcs.records() == []

    def test_same_record_is_not_sent_again(self, cdcs: CdcsProcess, proxy: Proxy, session: Publication) -> None:
        ours = destination(cdcs, proxy.url)
        remote = ours.create(session)
        proxy.seen.clear()

        assert ours.update(remote, session) == remote

        assert proxy.seen == [f"GET /rest/data/{remote.id}/"]

    def test_workspace_is_put_right(self, cdcs: CdcsProcess, session: Publication) -> None:
        remote = destination(cdcs, workspace=None).create(session)
        assert cdcs.records()[0]["workspace"] is None

        destination(cdcs).update(remote, session)

        assert cdcs.records()[0]["workspace"] == 1

    def test_session_key_is_too_long_for_a_title(self, cdcs: CdcsProcess, tmp_path: Path) -> None:
        key = f"2026-03-02_{'x' * 200}_nemo-1"

        with pytest.raises(DestinationRefusedError, match="at most 200 characters"):
            destination(cdcs).create(publication(tmp_path, key=key, previews=False))

    def test_indents_and_comments_make_no_difference(self) -> None:
        assert is_same("<a>\n  <b c='1' d='2'/>\n</a>", '<a><!-- --><b d="2" c="1"></b></a>')
        assert not is_same("<a><b>1</b></a>", "<a><b> 1</b></a>")
        assert not is_same("<a", "<a/>")


class TestIdentifiers:
    def test_identifier_that_the_server_sets_is_kept(
        self, full_server: CdcsProcess, session: Publication, rebuilt: Publication
    ) -> None:
        full_server.clear()
        ours = destination(full_server, user_owned=True)
        remote = ours.create(session)
        (record,) = full_server.records()
        pid = content(record).split(b'pid="')[1].split(b'"')[0]
        assert pid.startswith(f"{full_server.url}pid/rest/local/cdcs/".encode())

        ours.update(remote, session)
        (unchanged,) = full_server.records()
        ours.update(remote, rebuilt)
        (changed,) = full_server.records()

        assert unchanged == record
        assert ours.find(KEY, "") == [remote]
        assert content(changed).split(b'pid="')[1].split(b'"')[0] == pid
        assert b"Triple junctions" in content(changed)
        assert is_same(content(changed).decode().replace(pid.decode(), KEY), rebuilt.xml.decode())
        assert requests.get(pid.decode(), headers={"Accept": "text/html"}, timeout=60).status_code == 200


class TestOwners:
    def test_record_belongs_to_the_account_of_its_user_which_is_made(
        self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication, caplog: pytest.LogCaptureFixture
    ) -> None:
        ours = destination(cdcs, user_owned=True)

        remote = ours.create(session)

        (ada,) = [user for user in cdcs.ask("GET", "rest/user/") if user["username"] == "ada"]
        assert ada["email"] == "ada@example.org"
        assert cdcs.records()[0]["user_id"] == str(ada["id"])
        assert cdcs.records()[0]["workspace"] == 1
        assert ours.find(KEY, "") == [remote]
        ours.update(remote, rebuilt)
        assert cdcs.copies(KEY) == [rebuilt.xml]
        assert cdcs.records()[0]["user_id"] == str(ada["id"])

    def test_record_is_handed_over_later(self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication) -> None:
        remote = destination(cdcs).create(session)

        destination(cdcs, user_owned=True).update(remote, rebuilt)

        (ada,) = [user for user in cdcs.ask("GET", "rest/user/") if user["username"] == "ada"]
        assert cdcs.records()[0]["user_id"] == str(ada["id"])

    def test_user_whose_account_cannot_be_made_leaves_the_record_with_the_token(
        self, cdcs: CdcsProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nobody = ADA.model_copy(update={"username": "no such name!", "email": ""})
        record = publication(tmp_path, user=nobody)

        destination(cdcs, user_owned=True).create(record)

        assert cdcs.copies(KEY) == [record.xml]
        assert "no such name! stay with the account of NX_CDCS_TOKEN" in caplog.text

    def test_account_is_known_by_its_name_or_the_only_one_by_its_address(self) -> None:
        accounts = [
            Account(id=1, username="x", email="ADA@example.org"),
            Account(id=2, username="y"),
            Account(id=3, username="z"),
        ]

        assert account_of(ADA, accounts) == 1
        assert account_of(ADA, [*accounts, Account(id=4, username="ada")]) == 4
        assert account_of(ADA, [*accounts, Account(id=4, username="w", email="ada@example.org")]) is None
        assert account_of(ADA.model_copy(update={"email": ""}), accounts) is None


class TestFiles:
    def test_previews_are_uploaded_once_and_go_with_the_record(
        self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication, tmp_path: Path
    ) -> None:
        ours = destination(cdcs, blobs=True)
        remote = ours.create(session)
        first = {blob["filename"]: blob["id"] for blob in cdcs.blobs()}
        assert len(first) == 3
        assert all(name.startswith(KEY) for name in first)
        assert {blob["workspace"] for blob in cdcs.blobs()} == {1}

        ours.update(remote, session)
        assert {blob["filename"]: blob["id"] for blob in cdcs.blobs()} == first
        ours.update(remote, rebuilt)
        assert {blob["filename"]: blob["id"] for blob in cdcs.blobs()}.items() < first.items()
        assert len(cdcs.blobs()) == 2

        ours.create(publication(tmp_path / "datasets", key=f"{KEY}4"))
        ours.withdraw(remote)
        assert {blob["filename"].partition("_nemo-")[2][:4] for blob in cdcs.blobs()} == {"1044"}
        ours.withdraw(remote)

    def test_upload_whose_reply_was_lost_is_not_repeated(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication
    ) -> None:
        remote = destination(cdcs).create(session)
        ours = destination(cdcs, proxy.url, blobs=True)
        proxy.faults["POST"] = lost_reply

        with pytest.raises(DestinationUnavailableError):
            ours.update(remote, session)
        ours.update(remote, session)

        assert len(cdcs.blobs()) == 3

    def test_kind_of_file_that_cdcs_does_not_take_is_left_out_with_one_warning(
        self, cdcs: CdcsProcess, session: Publication, caplog: pytest.LogCaptureFixture
    ) -> None:
        moving = []
        for number, dataset in enumerate(session.datasets):
            path = session.datasets_folder / f"{number}.gif"
            path.write_bytes(b"GIF89a%d" % number)
            moving.append(replace(dataset, preview=f"/{path.name}"))

        destination(cdcs, blobs=True).create(replace(session, datasets=tuple(moving)))

        assert (len(cdcs.copies(KEY)), cdcs.blobs()) == (1, [])
        assert caplog.text.count("takes no '.gif' files") == 1


class TestTemplate:
    def test_template_is_made_and_given_a_new_version_only_where_it_differs(
        self, cdcs: CdcsProcess, session: Publication, rebuilt: Publication
    ) -> None:
        title = f"template {os.urandom(4).hex()}"
        ours = destination(cdcs, template=title)
        with pytest.raises(DestinationRefusedError, match=r"'nexus-experiment'.*nexuslims-pipeline cdcs-template"):
            ours.create(session)
        assert "would be made" in ours.install_template(dry_run=True)
        assert "was made" in ours.install_template()
        assert "already" in ours.install_template()
        assert ours.check() == []
        remote = ours.create(session)

        (manager,) = [m for m in cdcs.ask("GET", "rest/template-version-manager/global/") if m["title"] == title]
        path = f"rest/template-version-manager/{manager['id']}/version/"
        version = cdcs.ask("POST", path, json={"filename": "a.xsd", "content": NARROW})["id"]
        cdcs.ask("PATCH", f"rest/template/version/{version}/current/")
        assert "cdcs-template" in ours.check()[0]
        assert "would get a new version" in ours.install_template(dry_run=True)
        ours.install_template()

        assert ours.check() == []
        assert ours.find(KEY, "") == [remote]
        ours.update(remote, rebuilt)
        assert cdcs.copies(KEY) == [rebuilt.xml]

    def test_version_that_was_left_without_being_made_the_current_one_is_taken_up(
        self, cdcs: CdcsProcess, proxy: Proxy
    ) -> None:
        title = f"template {os.urandom(4).hex()}"
        cdcs.ask("POST", "rest/template/global/", json={"title": title, "filename": "a.xsd", "content": NARROW})
        ours = destination(cdcs, proxy.url, template=title)
        proxy.faults["PATCH"] = instead(403, b'{"message": "Not now."}')
        with pytest.raises(DestinationRefusedError, match="Not now"):
            ours.install_template()

        ours.install_template()

        (manager,) = [m for m in cdcs.ask("GET", "rest/template-version-manager/global/") if m["title"] == title]
        assert manager["current"] == manager["versions"][-1]
        assert len(manager["versions"]) == 2

    def test_template_that_went_meanwhile_is_looked_up_again(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication
    ) -> None:
        ours = destination(cdcs, proxy.url)
        proxy.faults["POST"] = instead(
            400, b'{"message": {"template": ["Invalid pk \\"77\\" - object does not exist."]}}'
        )

        ours.create(session)

        assert cdcs.copies(KEY) == [session.xml]
        assert proxy.seen.count("GET /rest/template-version-manager/global/") == 2

    def test_record_of_an_earlier_version_that_does_not_fit_there_says_how_to_mend_it(
        self, cdcs: CdcsProcess, session: Publication
    ) -> None:
        title = f"template {os.urandom(4).hex()}"
        cdcs.ask("POST", "rest/template/global/", json={"title": title, "filename": "a.xsd", "content": NARROW})
        ours = destination(cdcs, template=title)
        bare = f'<Experiment xmlns="https://data.nist.gov/od/dm/nexus/experiment/v1.0" pid="{KEY}"/>'
        remote = ours.create(replace(session, xml=bare.encode()))
        ours.install_template()

        with pytest.raises(DestinationRefusedError, match="earlier version of the template: move it"):
            ours.update(remote, session)


class TestSettings:
    def test_half_of_the_settings_is_a_mistake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NX_DATA_PATH", str(tmp_path / "data"))
        (tmp_path / "raw").mkdir()
        monkeypatch.setenv("NX_INSTRUMENT_DATA_PATH", str(tmp_path / "raw"))
        assert Cdcs.configured(load_settings(env_file=None)) is None
        monkeypatch.setenv("NX_CDCS_URL", "https://cdcs.example.org")
        with pytest.raises(ConfigurationError, match="NX_CDCS_TOKEN is missing"):
            Cdcs.configured(load_settings(env_file=None))
        monkeypatch.setenv("NX_CDCS_TOKEN", "a-telling-token")
        monkeypatch.setenv("NX_CDCS_BLOBS", "true")

        made = Cdcs.configured(load_settings(env_file=None))

        assert made is not None
        assert "blobs=True" in made.in_words()
        assert "a-telling-token" not in made.in_words() + repr(vars(made))
        monkeypatch.delenv("NX_CDCS_URL")
        with pytest.raises(ConfigurationError, match="NX_CDCS_URL is missing"):
            Cdcs.configured(load_settings(env_file=None))

    def test_token_that_is_wrong_is_told_once_and_not_shown(self, cdcs: CdcsProcess, session: Publication) -> None:
        ours = destination(cdcs, token="f00d" * 10)

        with pytest.raises(DestinationRefusedError, match="NX_CDCS_TOKEN") as refusal:
            ours.find(KEY, "")

        assert ours.check() == [str(refusal.value)]
        assert "f00d" not in str(refusal.value)

    def test_token_without_rights_cannot_hand_records_over(self, cdcs: CdcsProcess, session: Publication) -> None:
        plain = destination(cdcs, token=cdcs.powerless_token, workspace=None)
        remotes = [plain.create(session) for _ in range(12)]
        ours = destination(cdcs, token=cdcs.powerless_token, user_owned=True)

        assert plain.check() == []
        assert plain.find(KEY, "") == remotes
        assert ["not the token of a superuser" in fault for fault in ours.check()] == [True]
        with pytest.raises(DestinationRefusedError, match="NX_CDCS_USER_OWNED_RECORDS"):
            ours.find(KEY, "")

    def test_workspace_that_is_not_there_is_told(self, cdcs: CdcsProcess, session: Publication) -> None:
        ours = destination(cdcs, workspace="Atelier")

        with pytest.raises(DestinationRefusedError, match=r"'Global Public Workspace'.*NX_CDCS_WORKSPACE"):
            ours.create(session)

        assert ["Atelier" in fault for fault in ours.check()] == [True]


class TestTrouble:
    @pytest.mark.parametrize(
        "fault",
        [
            instead(500, b"<html>Server Error (500)</html>"),
            instead(500, b'{"message": "database is locked"}'),
            instead(503, b""),
            instead(201, b'{"id": 7, "tit'),
            instead(201, b'{"id": "seven"}'),
            instead(201, b"[]"),
        ],
    )
    def test_trouble_that_may_pass_is_told_from_a_refusal(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication, fault: Fault
    ) -> None:
        proxy.faults["POST"] = fault

        with pytest.raises(DestinationUnavailableError):
            destination(cdcs, proxy.url).create(session)

        assert [line for line in proxy.seen if line.startswith("POST")] == ["POST /rest/data/"]

    @pytest.mark.parametrize("body", [b'{"detail": "maintenance"}', b"[1]", b'[{"id": 1}]', b"<html>", b"null"])
    def test_answer_of_a_foreign_form_is_never_taken_for_no_copy(
        self, cdcs: CdcsProcess, proxy: Proxy, body: bytes
    ) -> None:
        proxy.faults["GET"] = instead(200, body)

        with pytest.raises(DestinationUnavailableError):
            destination(cdcs, proxy.url).find(KEY, "")

    def test_hostile_xml_of_a_record_is_not_expanded(
        self, cdcs: CdcsProcess, proxy: Proxy, session: Publication
    ) -> None:
        bomb = f'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Experiment pid="{KEY}">&b;</Experiment>'
        row = {"id": 1, "title": KEY, "template": 1, "user_id": 1, "workspace": None}
        rows = [row | {"xml_content": xml} for xml in (bomb, "<a>\ud800</a>", "<" * 100_000)]
        proxy.faults["GET"] = instead(200, json.dumps(rows).encode())

        assert destination(cdcs, proxy.url).find(KEY, "") == []

    def test_password_of_a_new_account_is_not_logged(
        self, cdcs: CdcsProcess, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        sent: list[bytes] = []

        def echo(handler: Handler) -> None:
            sent.append(handler.body)
            handler.answer(400, json.dumps({"message": handler.body.decode()}).encode())

        proxy.faults["POST"] = echo
        person = ADA.model_copy(update={"username": "grace", "email": "grace@example.org"})

        destination(cdcs, proxy.url, user_owned=True).create(publication(tmp_path, user=person))

        password = json.loads(sent[0])["password"]
        assert len(password) > 30
        assert password not in caplog.text
        assert "grace" in caplog.text


class TestSearch:
    def test_record_is_found_by_the_servers_own_search_on_postgresql(self, tmp_path: Path) -> None:
        with started("postgres") as cdcs:
            session = publication(tmp_path, title="Measuring recrystallised grains of 5 µm")
            other = publication(tmp_path, key=f"{KEY}4", title="Something else")
            ours = destination(cdcs)
            remote = ours.create(session)
            ours.create(other)

            def ids(path: str, query: Any) -> list[str]:
                found = cdcs.ask("POST", path, json={"query": query, "all": True})
                return [str(record["id"]) for record in found]

            assert ids("rest/data/query/keyword/", "grain measure") == [remote.id]
            assert ids("rest/data/query/", {"Experiment.id": 104}) == [remote.id]
            assert ids("rest/data/query/", {"Experiment.@pid": KEY}) == [remote.id]
            assert ours.find(KEY, "") == [remote]
            ours.withdraw(remote)
            assert ids("rest/data/query/keyword/", "grain") == []
