"""Crates and citations of sessions, read by the tools that others read them with, and the folder that they lie in."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from crate_validator import ValidatorNotInstalledError, findings, install, provenance_counts
from crates_folder import CratesFolder, record_in
from datacite import schema45
from facility import WELD, Facility, built_once, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publications import KEY, SAMPLE, publication
from rocrate.rocrate import ROCrate

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication import crate_payload
from nexuslims_pipeline.publication.crate import crate_bytes
from nexuslims_pipeline.publication.datacite import datacite
from nexuslims_pipeline.publication.model import Link, Publication
from nexuslims_pipeline.sessions.model import Person, Project
from resources.destinations.base import DestinationRefusedError, DestinationUnavailableError
from resources.destinations.crates import Crates
from resources.publications import StoredSessions
from resources.storage import InstrumentStorage

__all__ = ["built_once"]

FACILITY, PREFIX = "Facility for Größe & Co.", "10.5072"
OTHER = "2026-03-02_Demo-Quanta-SEM_nemo-10"
"""Its number is the beginning of `KEY`'s."""
HOSTILE = [
    "Größe µm – 電子顕微鏡.tif",
    "quo\"te 's <script>alert(1)</script> & %2e%2e.tif",
    "...tif",
    "..%2f..\\..\\etc.tif",
    "A.tif",
    "a.tif",
    "CON.tif",
    "line\nbreak\t: | * ?.tif",
    os.fsdecode(b"not utf-8 \xff\xfe.tif"),
    "ä" * 120 + ".tif",
]
WAIVED = {
    "49.0": "a project of NEMO names no funder",
    "54.0": "the .eln convention wants identifiers to be texts",
    "57.1": "the .eln convention wants hasPart to be a list",
    "62.2": "eLabFTW would show a description of the session after its text",
    "62.4": "a session without people is the facility's",
    "80.2": "NEMO does not tell where people work",
    "80.3": "the same",
    "85.0": "no licence is known",
    "86.2": "the facility's address is not known",
    "89.0": "nor its ROR",
    "90.1": "nor whom to ask there",
    "91.0": "NEMO knows no ORCID",
    "93.0": "nobody's mail address is given away",
}
"""Recommendations of RO-Crate 1.2 that are not followed, and why."""


def eln(session: Publication) -> bytes:
    return crate_bytes(session, FACILITY, PREFIX)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def entities(content: bytes, key: str = KEY) -> dict[str, dict[str, Any]]:
    document = json.loads(members(content)[f"{key}/ro-crate-metadata.json"])
    return {entity["@id"]: entity for entity in document["@graph"]}


def bare(folder: Path) -> Publication:
    """A session of which next to nothing is known."""
    return publication(
        folder, title=None, datasets=1, previews=False,
        user=None, operator=None, project=None, samples=(), motivation=None, link=None,
    )  # fmt: skip


def stored(facility: Facility, key: str) -> Publication:
    """A session of the demo, as it is published."""
    with facility.active() as site:
        storage = InstrumentStorage(
            root_path=str(site.instrument_data_path), instruments_file=str(site.instruments_file)
        )
        found = StoredSessions(facility.store, storage).publication(key, {})
        assert found is not None
        return found


class TestCrate:
    def test_validates(self, tmp_path: Path, built_once: Facility) -> None:
        try:
            install()
        except ValidatorNotInstalledError as fault:
            pytest.skip(f"roc-validator: {fault}")
        people = {"user": Person(username="<b>", last_name='O"Neill\n'), "operator": Person(username="op")}
        link = Link("CDCS record", "https://cdcs.example.org/data?id=1")
        crates = {
            "of the demo": eln(replace(stored(built_once, WELD), links={"cdcs": link})),
            "hostile": eln(
                publication(
                    tmp_path / "a", title='"<script>\x00 ../..', names=HOSTILE, link="javascript:alert(1)",
                    samples=(SAMPLE, SAMPLE.model_copy(update={"name": "../\x07", "pid": "a b"})), **people,
                )
            ),
            "bare": eln(bare(tmp_path / "b")),
        }  # fmt: skip
        for name, found in findings(crates, tmp_path / "crates", "RECOMMENDED").items():
            surprises = [f for f in found if f.split()[1].removeprefix("ro-crate-1.2_") not in WAIVED]
            assert not surprises, name
            assert all(finding.startswith("RECOMMENDED ") for finding in found), name
        for name, content in crates.items():
            (document,) = (text for file, text in members(content).items() if file.endswith("/prov.json"))
            assert provenance_counts(document)["prov:Activity"] >= 2, name

    @pytest.mark.parametrize("names", [None, HOSTILE])
    def test_says_what_it_holds(self, tmp_path: Path, names: list[str] | None) -> None:
        session = publication(tmp_path, names=names)
        content = eln(session)
        files = members(content)
        told = {i: e for i, e in entities(content).items() if e["@type"] == "File"}
        assert {f"{KEY}/{path}" for path in told} | {f"{KEY}/ro-crate-metadata.json"} == set(files)
        for path, entity in told.items():
            assert entity["sha256"] == hashlib.sha256(files[f"{KEY}/{path}"]).hexdigest()
            assert entity["contentSize"] == str(len(files[f"{KEY}/{path}"]))
        held = set(files.values())
        wanted = [session.xml, *(path.read_bytes() for _, path in session.previews())]
        assert held >= {*wanted, *(path.read_bytes() for path in session.sidecars().values())}

    def test_names_are_safe_everywhere(self, tmp_path: Path) -> None:
        names = list(members(eln(publication(tmp_path, names=HOSTILE))))
        assert names == sorted(names)
        assert len({name.casefold() for name in names}) == len(names)
        for name in names:
            assert name.isascii()
            assert not set(name) & set('%:|*?"<>\\ \n')
            assert not PurePosixPath(name).is_absolute()
            assert ".." not in name
            assert all(part.strip(".") and len(part) <= 200 for part in name.split("/"))

    def test_is_one_entry_with_all_files_for_importers(self, tmp_path: Path) -> None:
        content = eln(publication(tmp_path, motivation="Is x < y?"))
        told = entities(content)
        assert told["./"]["hasPart"] == [{"@id": "session/"}]
        session = told["session/"]
        assert {part["@id"] for part in session["hasPart"]} == {i for i, e in told.items() if e["@type"] == "File"}
        assert session["genre"] == "experiment"
        assert session["text"].startswith("<p>Is x &lt; y?</p>")
        assert isinstance(session["keywords"], str)

    def test_opens_with_the_usual_library(self, tmp_path: Path) -> None:
        (tmp_path / "a.eln").write_bytes(eln(publication(tmp_path / "store")))
        with zipfile.ZipFile(tmp_path / "a.eln") as archive:
            archive.extractall(tmp_path)
        crate = ROCrate(tmp_path / KEY)
        assert crate.name == "Grain boundaries"
        actions = crate.get_by_type("CreateAction")
        assert {action.id for action in actions} == {"#activity-1", "#activity-2", "#reading-1", "#build"}
        dataset = crate.get("#dataset-2")
        assert dataset["isBasedOn"]["identifier"] == "/Quanta/image%201.tif"
        assert (tmp_path / KEY / dataset["thumbnail"].id).read_bytes().startswith(b"\x89PNG")
        values = {value["name"]: value for value in dataset["variableMeasured"]}
        assert (values["Acceleration Voltage"]["value"], values["Acceleration Voltage"]["unitText"]) == ("10", "kV")

    def test_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from publications import publication\n"
            "from nexuslims_pipeline.publication.crate import crate_bytes\n"
            f"sys.stdout.buffer.write(crate_bytes(publication(Path({str(tmp_path)!r})), {FACILITY!r}, {PREFIX!r}))"
        )
        path = os.pathsep.join(str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[1]))
        for seed, zone in (("1", "Asia/Tokyo"), ("2", "America/Denver")):
            environment = {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": path, "PYTHONUTF8": "1"}
            made = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
            assert made.stdout == eln(publication(tmp_path))

    def test_leaves_out_what_is_too_much(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        session = publication(tmp_path)
        room = sum(path.stat().st_size for path in session.sidecars().values())
        monkeypatch.setattr(crate_payload, "LARGEST", room)
        content = eln(session)
        assert members(content)[f"{KEY}/session/left-out.txt"].decode().splitlines() == [
            f"image {n}.tif.png" for n in range(3)
        ]
        assert "3 sidecars and previews were too much" in entities(content)["./"]["description"]

    def test_gives_no_mail_address_away(self, tmp_path: Path) -> None:
        session = publication(tmp_path, operator=Person(username="op", email="op@example.org"))
        assert all(b"@example.org" not in content for content in members(eln(session)).values())


class TestCitation:
    def test_of_a_session_without_a_user(self, tmp_path: Path) -> None:
        cited = datacite(bare(tmp_path), FACILITY, PREFIX)
        assert schema45.validate(cited)
        assert cited["creators"] == [{"name": FACILITY, "nameType": "Organizational"}]
        assert cited["doi"] == f"{PREFIX}/{KEY}"
        assert cited["dates"][0]["date"] == "2026-03-02T09:00:00-07:00/2026-03-02T11:00:00-07:00"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(words=st.lists(st.text(max_size=40), min_size=8, max_size=8))
    def test_is_valid_whatever_people_write(self, tmp_path: Path, words: list[str]) -> None:
        title, given_name, family_name, motivation, sample, pid, project, link = words
        session = publication(
            tmp_path, title=title, datasets=1, motivation=motivation, link=link,
            user=Person(username="ada", first_name=given_name, last_name=family_name),
            operator=Person(username=family_name),
            samples=(SAMPLE.model_copy(update={"name": sample, "pid": pid, "description": title}),),
            project=Project(name=project, project_id=pid),
            links={"cdcs": Link("CDCS record", f"https://cdcs.example.org/{link}")},
        )  # fmt: skip
        cited = datacite(session, FACILITY, PREFIX)
        assert not list(schema45.validator.iter_errors(cited))
        assert schema45.tostring(cited)
        assert all(person["name"] for person in cited["creators"] + cited["contributors"])


@pytest.fixture
def shelf() -> Iterator[CratesFolder]:
    with CratesFolder() as folder:
        yield folder


class TestFolder:
    def test_holds_one_copy_that_follows_the_session(self, shelf: CratesFolder, tmp_path: Path) -> None:
        crates, first = Crates(shelf.folder, FACILITY, PREFIX), publication(tmp_path)
        assert crates.find(KEY, "") == []
        remote = crates.create(first)
        assert remote.url == (shelf.folder / "2026" / f"{KEY}.eln").as_uri()
        before = tree(shelf.folder)
        assert crates.update(remote, first) == remote
        assert tree(shelf.folder) == before
        changed = publication(tmp_path, title="Grain boundaries, cleaned")
        assert crates.update(remote, changed) == remote
        assert crates.find(KEY, "") == [remote]
        assert shelf.copies(KEY) == [changed.xml]
        cited = json.loads((shelf.folder / "2026" / f"{KEY}.datacite.json").read_bytes())
        assert cited["titles"] == [{"title": "Grain boundaries, cleaned"}]

    @pytest.mark.parametrize("lost", [".eln", ".datacite.json"])
    def test_mends_a_half_copy(self, shelf: CratesFolder, tmp_path: Path, lost: str) -> None:
        crates, session = Crates(shelf.folder, FACILITY, PREFIX), publication(tmp_path)
        (shelf.folder / "2026" / f"{crates.create(session).id}{lost}").unlink()
        (remote,) = crates.find(KEY, "")
        crates.update(remote, session)
        assert shelf.copies(KEY) == [session.xml]
        assert len(list(shelf.folder.rglob(f"*{lost}"))) == 1

    @pytest.mark.parametrize("call", range(1, 7))
    def test_a_kill_leaves_nothing_that_stays(self, shelf: CratesFolder, tmp_path: Path, call: int) -> None:
        crates, session = Crates(shelf.folder, FACILITY, PREFIX), publication(tmp_path)
        ended = _killed_at_disk_call(call, lambda: crates.create(session))
        assert ended == (call <= 4)  # two files, each flushed and then its folder
        copies = crates.find(KEY, "")
        crates.update(copies[0], session) if copies else crates.create(session)
        assert {path.name for path in (shelf.folder / "2026").iterdir()} == {f"{KEY}.eln", f"{KEY}.datacite.json"}
        assert shelf.copies(KEY) == [session.xml]

    @pytest.mark.parametrize("call", range(1, 5))
    def test_withdrawing_leaves_no_byte_of_the_session(self, shelf: CratesFolder, tmp_path: Path, call: int) -> None:
        crates, session = Crates(shelf.folder, FACILITY, PREFIX), publication(tmp_path)
        crates.create(publication(tmp_path, OTHER))
        others = tree(shelf.folder / "2026")
        _killed_at_disk_call(call, lambda: crates.create(session))
        (remote,) = crates.find(KEY, "")
        crates.withdraw(remote)
        crates.withdraw(remote)
        assert tree(shelf.folder / "2026") == others
        assert crates.find(KEY, "") == []

    def test_leaves_the_unfinished_files_of_other_sessions_alone(self, shelf: CratesFolder, tmp_path: Path) -> None:
        crates, session = Crates(shelf.folder, FACILITY, PREFIX), publication(tmp_path)
        _killed_at_disk_call(3, lambda: crates.create(session))
        (unfinished,) = (shelf.folder / "2026").glob(".*.tmp")
        crates.withdraw(crates.create(publication(tmp_path, OTHER)))
        assert unfinished.exists()

    def test_of_a_folder_that_is_not_mounted_nothing_is_said(self, shelf: CratesFolder, tmp_path: Path) -> None:
        crates = Crates(shelf.folder, FACILITY, PREFIX)
        remote = crates.create(publication(tmp_path))
        shelf.folder.rename(tmp_path / "aside")
        moved = Crates(tmp_path / "new", FACILITY, PREFIX)
        assert not moved.is_copy(remote, KEY), "another folder is filled anew"
        for _ in range(2):
            with pytest.raises(DestinationUnavailableError, match="look whether it is mounted"):
                crates.is_copy(remote, KEY)
            shelf.folder.mkdir(exist_ok=True)
        (tmp_path / "aside" / "2026").rename(shelf.folder / "2026")
        assert not crates.is_copy(remote, KEY)

    def test_a_wrong_folder_is_refused_in_words(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        crates = Crates(tmp_path / "file" / "crates", FACILITY, PREFIX)
        with pytest.raises(DestinationRefusedError, match="NX_CRATES_PATH"):
            crates.create(publication(tmp_path / "store"))
        assert "NX_CRATES_PATH" in crates.check()[0]
        assert Crates(tmp_path / "new", FACILITY, PREFIX).check() == []

    def test_is_configured_by_its_folder(self, tmp_path: Path) -> None:
        def site(**more: Any) -> Settings:
            return Settings(_env_file=None, instrument_data_path=tmp_path, data_path=tmp_path.parent / "data", **more)

        assert Crates.configured(site()) is None
        folder = tmp_path.parent / "crates"
        assert Crates.configured(site(crates_path=folder)) is not None
        with pytest.raises(ConfigurationError, match="NX_CRATES_DOI_PREFIX"):
            Crates.configured(site(crates_path=folder, crates_doi_prefix="doi:10.1/x"))

    def test_keeps_the_record_as_it_is(self, tmp_path: Path) -> None:
        session = publication(tmp_path)
        assert record_in(eln(session), KEY) == session.xml


def _killed_at_disk_call(number: int, work: Any) -> bool:
    """Do some work in a process that dies at its n-th call of fsync; whether it did."""
    child = os.fork()
    if child == 0:
        calls = iter(range(1, number))
        flush = os.fsync

        def dying(descriptor: int) -> None:
            if next(calls, None) is None:
                os._exit(9)
            flush(descriptor)

        os.fsync = dying
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
