"""eLabFTW, before a server that behaves as the real one: one experiment per session, and what people write stays."""

import copy
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from elabftw_server import DELETED, NORMAL, READER, SITE_URL, WRITER, ElabftwServer, Experiment, Request, Upload
from publications import ADA, INSTRUMENT, KEY, publication

from nexuslims_pipeline import configuration
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Link, Publication
from nexuslims_pipeline.sessions.model import Sample
from resources.destinations.base import (
    DestinationBusyError,
    DestinationError,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.destinations.elabftw import BEGIN, CRATE_NAME, END, RECORD_NAME, Elabftw

CDCS = Link("CDCS record", "https://cdcs.example.org/data?id=5")
Make = Callable[..., Publication]


@pytest.fixture
def server() -> Iterator[ElabftwServer]:
    with ElabftwServer() as server:
        yield server
        assert server.violations == []


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda *args, **kwargs: publication(tmp_path / "datasets", *args, **kwargs)


def destination(server: ElabftwServer, **variables: str) -> Elabftw:
    made = configured(server.variables(server.url) | variables)
    assert made is not None
    return made


def configured(variables: dict[str, str]) -> Elabftw | None:
    with mock.patch.dict(os.environ, {"NX_INSTRUMENT_DATA_PATH": "/tmp", "NX_DATA_PATH": "/nowhere", **variables}):
        return Elabftw.configured(configuration.load_settings(env_file=None))


def published(server: ElabftwServer, made: Publication, **variables: str) -> tuple[Remote, Experiment]:
    """Publish as the ledger's protocol does; afterwards there is one experiment."""
    elabftw = destination(server, **variables)
    copies = elabftw.find(made.key, "")
    remote = elabftw.update(copies[0], made) if copies else elabftw.create(made)
    (experiment,) = server.live(made.key)
    assert remote.id == str(experiment.id)
    return remote, experiment


def files(experiment: Experiment) -> dict[str, bytes]:
    return {upload.real_name: upload.content for upload in experiment.uploads if upload.state != DELETED}


@contextmanager
def cut_off(server: ElabftwServer, when: Callable[[Request], bool]) -> Iterator[None]:
    """From the first such request on the server does nothing any more."""
    answer, is_off = server.answer, []

    def answer_or_fail(request: Request) -> tuple[int, Any, dict[str, str]]:
        if is_off or when(request):
            is_off.append(True)
            return 500, {"message": "out of order"}, {}
        return answer(request)

    with mock.patch.object(server, "answer", answer_or_fail):
        yield


def after(calls: int) -> Callable[[Request], bool]:
    seen = count()
    return lambda _: next(seen) >= calls


class TestCreate:
    def test_experiment_has_all_of_the_session(self, server: ElabftwServer, make: Make) -> None:
        made = make(links={"cdcs": CDCS})

        remote, experiment = published(
            server, made, NX_ELABFTW_EXPERIMENT_CATEGORY="1", NX_ELABFTW_EXPERIMENT_STATUS="4"
        )

        assert remote.url == f"{server.url}/experiments.php?mode=view&id={experiment.id}"
        assert (experiment.title, experiment.date) == ("Grain boundaries", "2026-03-02")
        assert (experiment.category, experiment.status, experiment.content_type) == (1, 4, 1)
        assert experiment.tags == ["NexusLIMS", INSTRUMENT.name]
        assert {name: field["value"] for name, field in experiment.fields.items()} == {
            "Session ID": KEY,
            "Instrument": INSTRUMENT.name,
            "Start Time": "2026-03-02T09:00",
            "End Time": "2026-03-02T11:00",
            "Time Zone": "America/Denver",
            "User": "Ada Adeyemi (ada)",
            "Project": "MD-2026-1 – Oxide films",
            "Samples": "weld A",
            "Datasets": "3",
            "Activities": "2",
            "NEMO": "https://nemo.example.org/event_details/usage/104/",
            "CDCS record": CDCS.url,
        }
        groups = json.loads(experiment.metadata or "")["elabftw"]["extra_fields_groups"]
        assert [group["name"] for group in groups] == ["Session Information", "Related Records"]
        assert files(experiment)[RECORD_NAME] == made.xml
        with zipfile.ZipFile(BytesIO(files(experiment)[CRATE_NAME])) as crate:
            assert crate.testzip() is None
        assert "image 2.tif" in experiment.body

    def test_number_of_requests(self, server: ElabftwServer, make: Make) -> None:
        _, experiment = published(server, make())
        path = f"experiments/{experiment.id}"
        created = ["GET experiments", "POST experiments", f"PATCH {path}", *[f"POST {path}/uploads"] * 2]
        assert server.calls == created

        server.calls.clear()
        assert len(destination(server).find(KEY, "")) == 1
        assert server.calls == ["GET experiments"]

        server.calls.clear()
        published(server, make(title="Pores"))
        assert [call.split()[0] for call in server.calls] == ["GET", "GET", "PATCH", "POST", "DELETE", "POST", "DELETE"]

    @pytest.mark.parametrize("release", [(5, 3, 6), (6, 0, 0)])
    def test_text_is_html_whatever_the_owner_of_the_key_prefers(
        self, release: tuple[int, int, int], make: Make
    ) -> None:
        with ElabftwServer(release, prefers_markdown=True) as server:
            _, experiment = published(server, make())

            assert experiment.content_type == 1
            assert server.violations == []

    def test_hostile_texts_are_texts(self, server: ElabftwServer, make: Make) -> None:
        evil = '<script>alert("1")</script>\x00 | "quoted" \\ ]]> \ud800 é 🔬'
        made = make(
            title=evil + "x" * 300,
            names=["<img src=x onerror=alert(1)>.tif", END],
            motivation=f"{END}<b>bold</b>",
            samples=(Sample(id="s", name=evil, description=evil),),
        )

        published(server, made)
        _, experiment = published(server, made)

        assert experiment.body.count(BEGIN) == experiment.body.count(END) == 1
        assert "<script" not in experiment.body
        assert "<b>" not in experiment.body
        assert "&lt;img src=x onerror=alert(1)&gt;.tif" in experiment.body
        assert len(experiment.title) == 255

    def test_lost_reply_leaves_one(self, server: ElabftwServer, make: Make) -> None:
        server.lose_reply_to = "POST experiments"
        with pytest.raises(DestinationUnavailableError):
            destination(server).create(make())

        published(server, make())

        assert len(server.experiments) == 1
        assert server.copies(KEY) == [make().xml]

    @pytest.mark.parametrize("calls", range(12))
    def test_cut_off_anywhere_and_run_again(self, server: ElabftwServer, make: Make, calls: int) -> None:
        with cut_off(server, after(calls)), pytest.raises(DestinationError):
            published(server, make())
            published(server, make(title="Pores"))

        _, experiment = published(server, make(title="Pores"))

        assert (experiment.title, experiment.date) == ("Pores", "2026-03-02")
        assert sorted(files(experiment)) == [RECORD_NAME, CRATE_NAME]
        assert server.copies(KEY) == [make(title="Pores").xml]
        assert len(server.experiments) == 1


class TestFind:
    def test_only_the_very_key_and_only_ours(self, server: ElabftwServer, make: Make) -> None:
        others = [KEY + "5", KEY.replace("_", "x", 1).replace("x", "-", 1), KEY.upper()]
        remote, experiment = published(server, make())
        for number, other in enumerate(others, 900):
            alike = copy.deepcopy(experiment)
            alike.id, alike.metadata = number, (experiment.metadata or "").replace(KEY, other)
            server.experiments[number] = alike
        duplicate = copy.deepcopy(experiment)
        duplicate.id = 910
        server.experiments[910] = duplicate

        assert destination(server).find(KEY, "") == [remote]

    def test_every_page_is_read_and_the_oldest_comes_first(self, server: ElabftwServer, make: Make) -> None:
        for _ in range(3):
            destination(server).create(make())

        with mock.patch("resources.destinations.elabftw.PAGE_SIZE", 2):
            found = [int(remote.id) for remote in destination(server).find(KEY, "")]

        assert found == sorted(server.experiments)

    def test_deleted_is_gone_and_archived_is_not(self, server: ElabftwServer, make: Make) -> None:
        remote, experiment = published(server, make())
        experiment.state, experiment.locked = 2, 1
        assert destination(server).find(KEY, "") == [remote]
        with pytest.raises(DestinationRefusedError, match="unarchive it"):
            destination(server).update(remote, make(title="Pores"))

        experiment.state = DELETED
        assert destination(server).find(KEY, "") == []


class TestUpdate:
    def test_what_people_wrote_stays(self, server: ElabftwServer, make: Make) -> None:
        first, experiment = published(server, make())
        experiment.body = f"<p>My thoughts</p>{experiment.body}<p>My conclusions</p>"
        experiment.title = "Cracks, at last"
        experiment.tags.append("weld")
        experiment.status = 1
        metadata = json.loads(experiment.metadata or "")
        metadata["extra_fields"]["Polish"] = {"type": "text", "value": "OP-S"}
        metadata["other tool"] = {"kept": True}
        experiment.metadata = json.dumps(metadata)
        experiment.uploads.append(Upload(1, RECORD_NAME, "mine", b"their own file"))

        second, after = published(server, make(title="Pores", names=["pore.tif"], samples=()))

        assert second == first
        assert after.body.startswith(f"<p>My thoughts</p>{BEGIN}")
        assert after.body.endswith(f"{END}<p>My conclusions</p>")
        assert "pore.tif" in after.body
        assert "image 2.tif" not in after.body
        assert after.title == "Cracks, at last"
        assert after.tags == ["NexusLIMS", INSTRUMENT.name, "weld"]
        assert after.status == 1
        assert after.fields["Polish"] == {"type": "text", "value": "OP-S"}
        assert "Samples" not in after.fields
        assert json.loads(after.metadata or "")["other tool"] == {"kept": True}
        mine = [upload.content for upload in after.uploads if upload.comment == "mine" and upload.state != DELETED]
        assert mine == [b"their own file"]

    def test_link_is_added_when_it_appears_and_goes_when_it_is_gone(self, server: ElabftwServer, make: Make) -> None:
        _, experiment = published(server, make())
        assert "CDCS record" not in experiment.fields

        published(server, make(links={"cdcs": CDCS}))
        assert experiment.fields["CDCS record"]["value"] == CDCS.url
        assert f'<a href="{CDCS.url}"' in experiment.body

        published(server, make())
        assert "CDCS record" not in experiment.fields
        assert CDCS.url not in experiment.body

    def test_page_comes_back_at_the_end_of_a_text_without_its_lines(self, server: ElabftwServer, make: Make) -> None:
        _, experiment = published(server, make())
        experiment.body = experiment.body.replace(END, "") + "<p>Mine</p>"

        for title in ("Pores", "Cracks"):
            published(server, make(title=title))

        assert experiment.body.count("<p>Mine</p>") == experiment.body.count(END) == 1
        assert experiment.body.count("Cracks") == 1

    def test_tag_of_a_renamed_instrument_is_replaced(self, server: ElabftwServer, make: Make) -> None:
        _, experiment = published(server, make())
        experiment.tags = ["nexuslims", INSTRUMENT.name, "weld"]
        with mock.patch("publications.INSTRUMENT", INSTRUMENT.model_copy(update={"name": "Old | Quanta"})):
            published(server, make())

        assert experiment.tags == ["nexuslims", "weld", "Old Quanta"]

    def test_same_files_are_not_sent_again(self, server: ElabftwServer, make: Make) -> None:
        published(server, make())
        server.calls.clear()

        published(server, make())

        assert [call.split()[0] for call in server.calls] == ["GET", "GET", "PATCH"]

    def test_nobody_is_disturbed_at_work(self, server: ElabftwServer, make: Make) -> None:
        remote, experiment = published(server, make())
        experiment.editor = "Ada"
        with pytest.raises(DestinationBusyError, match="editing"):
            destination(server).update(remote, make(title="Pores"))

        experiment.editor, experiment.locked = None, 1
        with pytest.raises(DestinationRefusedError, match=r"unlock it there: http.*id=\d+"):
            destination(server).update(remote, make(title="Pores"))
        assert experiment.title == "Grain boundaries"


class TestWithdraw:
    def test_nothing_of_the_session_is_left(self, server: ElabftwServer, make: Make) -> None:
        for title in ("Grain boundaries", "Pores", "Cracks"):
            made = make(title=title, names=[f"{title}.tif", *"abcdefgh"], links={"cdcs": CDCS})
            remote, experiment = published(server, made)
        experiment.body += "<p>My conclusions</p>"
        traces = ["Cracks", "Pores", "(ada)", ADA.last_name, "weld", "Oxide", KEY, CDCS.url, "Quanta/"]
        assert [trace for trace in traces if trace.encode() not in server.everything()] == []

        destination(server).withdraw(remote)

        traces.append("Grain boundaries")
        assert [trace for trace in traces if trace.encode() in server.everything()] == []
        assert b"My conclusions" in server.everything()
        assert server.live(KEY) == []
        assert {upload.state for upload in experiment.uploads} == {DELETED}
        destination(server).withdraw(remote)
        destination(server).withdraw(Remote(id="9999", url=""))

    def test_cut_off_anywhere_it_is_found_or_known_and_finished(self, server: ElabftwServer, make: Make) -> None:
        for calls in range(20):
            server.clear()
            remote, experiment = published(server, make())
            try:
                with cut_off(server, after(calls)):
                    destination(server).withdraw(remote)
                break
            except DestinationError:
                assert experiment.state != DELETED
            if any(upload.state != DELETED for upload in experiment.uploads):
                assert destination(server).find(KEY, "") == [remote]
            destination(server).withdraw(remote)
            assert b"Grain" not in server.everything()
            assert experiment.state == DELETED
        assert calls == 7

    @pytest.mark.parametrize("metadata", [None, '{"extra_fields": {}}'])
    def test_without_its_key_it_is_still_known_as_ours(
        self, server: ElabftwServer, make: Make, metadata: str | None
    ) -> None:
        remote, experiment = published(server, make())
        experiment.metadata = metadata

        destination(server).withdraw(remote)

        assert b"image 2.tif" not in server.everything()
        assert experiment.state == DELETED

    def test_somebody_elses_experiment_under_its_number_is_left_alone(self, server: ElabftwServer, make: Make) -> None:
        remote, experiment = published(server, make())
        theirs = Experiment(experiment.id, "Theirs", "<p>Theirs</p>", 1, '{"extra_fields": {}}', None, None, [])
        server.experiments[experiment.id] = theirs

        destination(server).withdraw(remote)

        assert (theirs.state, theirs.title, theirs.body) == (NORMAL, "Theirs", "<p>Theirs</p>")

    def test_what_the_ledger_knows_is_ours_by_more_than_its_number(self, server: ElabftwServer, make: Make) -> None:
        remote, experiment = published(server, make())
        elabftw = destination(server)
        assert elabftw.is_copy(remote, KEY)
        assert not elabftw.is_copy(remote, f"{KEY}4")
        experiment.metadata = None
        assert elabftw.is_copy(remote, KEY), "its page tells the session"
        assert not elabftw.is_copy(remote, KEY[:-1])
        with cut_off(server, lambda request: request.method == "DELETE"), pytest.raises(DestinationError):
            elabftw.withdraw(remote)
        assert elabftw.is_copy(remote, KEY), "it has yet to be deleted"
        elabftw.withdraw(remote)
        assert not elabftw.is_copy(remote, KEY)

    def test_given_consent_again_it_is_whole_again(self, server: ElabftwServer, make: Make) -> None:
        remote, experiment = published(server, make())
        with cut_off(server, lambda request: request.method == "DELETE"), pytest.raises(DestinationError):
            destination(server).withdraw(remote)

        published(server, make())

        assert experiment.title == "Grain boundaries"
        assert experiment.fields["User"]["value"] == "Ada Adeyemi (ada)"
        assert "Withdrawn" not in experiment.body


class TestRefusals:
    def test_wrong_key(self, server: ElabftwServer, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        elabftw = destination(server, NX_ELABFTW_API_KEY="1-wrongsecret")
        with pytest.raises(DestinationRefusedError, match="set NX_ELABFTW_API_KEY") as refusal:
            elabftw.find(KEY, "")

        assert "set NX_ELABFTW_API_KEY" in elabftw.check()[0]
        assert "wrongsecret" not in str(refusal.value) + caplog.text + repr(elabftw) + repr(vars(elabftw))

    def test_read_only_key(self, server: ElabftwServer, make: Make) -> None:
        elabftw = destination(server, NX_ELABFTW_API_KEY=READER)

        with pytest.raises(DestinationRefusedError, match=r"read-only key.*set NX_ELABFTW_API_KEY"):
            elabftw.create(make())
        assert "may only read" in elabftw.check()[0]

    def test_choices_that_the_team_does_not_have(self, server: ElabftwServer) -> None:
        assert destination(server, NX_ELABFTW_EXPERIMENT_CATEGORY="2").check() == []

        wrong = destination(server, NX_ELABFTW_EXPERIMENT_CATEGORY="9", NX_ELABFTW_EXPERIMENT_STATUS="9").check()

        assert "choose one of: 1 (Microscopy), 2 (Synthesis)" in wrong[0]
        assert "NX_ELABFTW_EXPERIMENT_STATUS" in wrong[1]

    def test_team_with_templates_only(self, make: Make) -> None:
        with ElabftwServer(forces_template=True) as server, pytest.raises(DestinationRefusedError, match="template"):
            destination(server).create(make())

    def test_crate_that_is_too_large(self, make: Make) -> None:
        made = make()
        with (
            ElabftwServer(largest_upload=len(made.xml)) as server,
            pytest.raises(DestinationRefusedError, match=f"{CRATE_NAME} .* raise its MAX_UPLOAD_SIZE"),
        ):
            destination(server).create(made)

    @pytest.mark.parametrize("answer", [{"results": []}, [{"title": "no number"}], ["text"], [{"id": 5, "uploads": 3}]])
    def test_answers_of_another_form(self, server: ElabftwServer, answer: object) -> None:
        of_another_form = mock.patch.object(server, "answer", lambda request: (200, answer, {}))
        with of_another_form, pytest.raises(DestinationUnavailableError, match="another form"):
            destination(server).find(KEY, "")

    @pytest.mark.parametrize("metadata", [None, "[]", "{}", '{"extra_fields": []}', '{"nexuslims_pipeline": 3}'])
    def test_metadata_that_people_spoilt_is_written_anew(
        self, server: ElabftwServer, make: Make, metadata: str | None
    ) -> None:
        remote, experiment = published(server, make())
        experiment.metadata = metadata

        destination(server).update(remote, make())

        assert experiment.fields["Session ID"]["value"] == KEY


class TestSettings:
    def test_half_set_up(self) -> None:
        assert configured({}) is None
        with pytest.raises(ConfigurationError, match="NX_ELABFTW_API_KEY is missing"):
            configured({"NX_ELABFTW_URL": "https://eln.example.org"})
        with pytest.raises(ConfigurationError, match="NX_ELABFTW_URL is missing"):
            configured({"NX_ELABFTW_API_KEY": WRITER})

    @pytest.mark.parametrize("url", ["", "/", "/api/v2", "/api/v2/"])
    def test_any_form_of_the_address(self, server: ElabftwServer, make: Make, url: str) -> None:
        remote, _ = published(server, make(), NX_ELABFTW_URL=server.url + url)

        assert remote.url.startswith(f"{server.url}/experiments.php?")


class TestStandIn:
    """The server of these tests: what the real one refuses, ignores or does otherwise than its description says."""

    @pytest.mark.parametrize(
        ("release", "method", "path", "body", "status"),
        [
            ((5, 3, 6), "PATCH", "experiments/101", {"metadata": {"extra_fields": {}}}, 500),
            ((5, 3, 6), "PATCH", "experiments/101", {"metadata": '{"extra_fields": {"a": {"value": 5}}}'}, 400),
            ((5, 3, 6), "PATCH", "experiments/101", {"tags": ["a"]}, 400),
            ((5, 3, 6), "PATCH", "experiments/101", {"metadatamerge": "{}"}, 400),
            ((5, 3, 6), "PATCH", "experiments/101", {"title": 5}, 400),
            ((5, 3, 6), "POST", "experiments", {"metadata": "{}"}, 400),
            ((5, 3, 6), "POST", "experiments", {"tags": "one"}, 400),
            ((5, 3, 6), "GET", "experiments?limit=many", None, 400),
            ((5, 3, 6), "GET", "unheard/of", None, 400),
        ],
    )
    def test_wrong_requests_are_refused_and_noted(
        self, release: tuple[int, int, int], method: str, path: str, body: Any, status: int
    ) -> None:
        with ElabftwServer(release) as server:
            assert self.ask(server, "POST", "experiments", json={"title": "a"}).status_code == 201
            assert server.violations == []

            assert self.ask(server, method, path, json=body).status_code == status
            assert len(server.violations) == 1

    def test_what_it_ignores(self) -> None:
        with ElabftwServer((5, 3, 6), prefers_markdown=True) as server:
            sent = {"title": "a", "rating": 5, "content_type": 1, "body": "<!-- x --><p id='a' class='b'>c</p>"}
            answer = self.ask(server, "POST", "experiments", json=sent)
            self.ask(server, "POST", "experiments", json={"template": 3, "title": "b", "body": "c"})

            first, second = server.experiments.values()
            assert (answer.content, answer.headers["Location"]) == (b"", f"{SITE_URL}/api/v2/experiments/{first.id}")
            assert (first.body, first.content_type) == ("<p>c</p>", 2)
            assert (second.title, second.body) == ("From a template", "")
            everything = self.ask(server, "GET", "experiments", params={"scope": 3})
            assert [row["id"] for row in everything.json()] == [second.id]
            php = {"file": ("a.php", b"x")}
            assert self.ask(server, "POST", f"experiments/{first.id}/uploads", files=php).status_code == 400

    @staticmethod
    def ask(server: ElabftwServer, method: str, path: str, **payload: Any) -> requests.Response:
        return requests.request(
            method, f"{server.url}/api/v2/{path}", headers={"Authorization": WRITER}, timeout=10, **payload
        )
