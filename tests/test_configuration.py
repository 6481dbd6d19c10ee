"""Settings: every mistake is found at once, named by its variable or line, and told with its mend."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from facility import Facility, clear_environment, tree, written

from nexuslims_pipeline.cli import main
from nexuslims_pipeline.configuration import load_settings, nemo_servers, unknown_variables
from nexuslims_pipeline.instruments import ConfigurationError, load_instruments

__all__ = ["written"]

TOKEN = "0123456789abcdef0123456789abcdef"
TITAN = """\
instruments:
  - id: Titan
    name: FEI Titan
    nemo: {server: nemo, tool: 10}
    folder: Titan
    time_zone: America/Denver
"""


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """A place with a folder of raw data, and an environment without settings."""
    (tmp_path / "raw").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch)
        patch.chdir(tmp_path)
        yield tmp_path


def env_file(folders: Path, **variables: str) -> Path:
    given = {"NX_INSTRUMENT_DATA_PATH": str(folders / "raw"), "NX_DATA_PATH": str(folders / "data")} | variables
    path = folders / ".env"
    path.write_text("".join(f"{name}='{value}'\n" for name, value in given.items()))
    return path


def mistakes(folders: Path, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as found:
        load_settings(env_file(folders, **variables))
    return str(found.value)


# Variables


def test_the_least_that_must_be_set(folders: Path) -> None:
    site = load_settings(env_file(folders))
    assert site.records_folder == folders / "data" / "records"
    assert site.ignore_patterns == ["*.mib", "*.db", "*.emi", "*.hdr"]
    assert site.nemo_servers == {}
    assert not (folders / "data").exists()


def test_the_environment_overrules_the_file(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NX_FILE_DELAY_DAYS", "7")
    site = load_settings(env_file(folders, NX_FILE_DELAY_DAYS="3", NX_SETTLE_SECONDS="5"))
    assert (site.file_delay_days, site.settle_seconds) == (7, 5)


def test_paths_do_not_depend_on_where_a_process_stands(folders: Path) -> None:
    site = load_settings(env_file(folders, NX_DATA_PATH="data", NX_RECORDS_PATH="xml", NX_INSTRUMENTS_FILE="i.yaml"))
    assert (site.data_path, site.records_folder, site.instruments_file) == (
        folders / "data",
        folders / "xml",
        folders / "i.yaml",
    )


@pytest.mark.parametrize("given", ["*.mib, thumbs.db", '["*.mib", "thumbs.db"]'])
def test_patterns_come_as_a_list_or_with_commas(folders: Path, given: str) -> None:
    assert load_settings(env_file(folders, NX_IGNORE_PATTERNS=given)).ignore_patterns == ["*.mib", "thumbs.db"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NX_INSTRUMENT_DATA_PATH": ""}, "NX_INSTRUMENT_DATA_PATH is not set; set it in the environment or in .env"),
        ({"NX_INSTRUMENT_DATA_PATH": "/nowhere"}, "there is no folder '/nowhere'; mount the instrument share or"),
        ({"NX_DATA_PATH": "raw/data"}, "NX_DATA_PATH lies below NX_INSTRUMENT_DATA_PATH, which is never written"),
        ({"NX_RECORDS_PATH": "raw/records"}, "NX_RECORDS_PATH lies below NX_INSTRUMENT_DATA_PATH"),
        ({"NX_FILE_DELAY_DAYS": "soon"}, "NX_FILE_DELAY_DAYS: Input should be a valid number"),
        ({"NX_FILE_DELAY_DAYS": "inf"}, "NX_FILE_DELAY_DAYS: Input should be less than or equal to 36500"),
        ({"NX_HARVEST_DAYS": "nan"}, "NX_HARVEST_DAYS: Input should be "),
        ({"NX_CLUSTERING_SENSITIVITY": "inf"}, "NX_CLUSTERING_SENSITIVITY: Input should be a finite number"),
        ({"NX_FILE_STRATEGY": "all"}, "NX_FILE_STRATEGY: Input should be 'exclusive' or 'inclusive'"),
        ({"NX_LOCAL_PROFILES_PATH": "profiles"}, "NX_LOCAL_PROFILES_PATH: there is no folder 'profiles'; make it or"),
        ({"NX_OMIT_PERSONAL_DATA": "maybe"}, "NX_OMIT_PERSONAL_DATA: Input should be a valid boolean"),
        ({"NX_CERT_BUNDLE_FILE": "ca.pem"}, "NX_CERT_BUNDLE_FILE: there is no file 'ca.pem'"),
        ({"NX_NEMO_TOKEN_2": TOKEN}, "NX_NEMO_ADDRESS_2 is missing, but NX_NEMO_TOKEN_2 is set"),
        ({"NX_NEMO_ADDRESS_1": "nemo.example.org"}, "NX_NEMO_ADDRESS_1: write the whole address, e.g. https://"),
        ({"NX_NEMO_ADDRESS_1": "https://nemo.example.org/api"}, "NX_NEMO_TOKEN_1 is missing; make a token in NEMO"),
        ({"NX_NEMO_ADDRESS_1": "https://me:pw@nemo.example.org", "NX_NEMO_TOKEN_1": TOKEN}, "NX_NEMO_ADDRESS_1: "),
        ({"NX_NEMO_ADDRESS_1": "http://[::1/", "NX_NEMO_TOKEN_1": TOKEN}, "NX_NEMO_ADDRESS_1: "),
        ({"NX_NEMO_ADDRESS_1": "https://n.org/?a=1", "NX_NEMO_TOKEN_1": TOKEN}, "NX_NEMO_ADDRESS_1: "),
        (
            {"NX_NEMO_ADDRESS_1": "https://n.org", "NX_NEMO_TOKEN_1": f"{TOKEN} {TOKEN}"},
            "NX_NEMO_TOKEN_1: the token has",
        ),
        ({"NX_NEMO_ADDRESS_1": "file:///srv/", "NX_NEMO_TZ_1": "Denver"}, "NX_NEMO_TZ_1: 'Denver' is no time zone"),
        ({"NX_NEMO_ADDRESS_1": "file:///srv/", "NX_NEMO_NAME_1": "my nemo"}, "NX_NEMO_NAME_1: use letters, digits"),
        (
            {"NX_NEMO_ADDRESS_1": "file:///a/", "NX_NEMO_ADDRESS_2": "file:///b/", "NX_NEMO_NAME_2": "NEMO"},
            "NX_NEMO_NAME_2: another server is called 'NEMO' too; choose another name.",
        ),
    ],
)
def test_a_mistake_is_named_with_its_mend(folders: Path, variables: dict[str, str], words: str) -> None:
    told = mistakes(folders, **variables)
    assert words in told
    assert len(told.splitlines()) == 1
    assert TOKEN not in told


def test_raw_data_must_not_lie_where_the_pipeline_writes(folders: Path) -> None:
    (folders / "data" / "datasets").mkdir(parents=True)
    told = mistakes(folders, NX_INSTRUMENT_DATA_PATH=str(folders / "data" / "datasets"))
    assert "NX_INSTRUMENT_DATA_PATH lies in" in told


def test_all_mistakes_are_told_at_once(folders: Path) -> None:
    told = mistakes(
        folders,
        NX_DATA_PATH="",
        NX_FILE_STRATEGY="all",
        NX_NEMO_ADDRESS_1="ftp://n.org",
        NX_NEMO_TZ_1="Mars",
        NX_NEMO_TOKEN_2=TOKEN,
    )
    for name in ("NX_DATA_PATH", "NX_FILE_STRATEGY", "NX_NEMO_ADDRESS_1", "NX_NEMO_TZ_1", "NX_NEMO_ADDRESS_2"):
        assert name in told


def test_servers_are_counted_named_and_may_be_left_empty() -> None:
    given = {
        "NX_NEMO_ADDRESS_1": "https://one.example.org/api",
        "NX_NEMO_TOKEN_1": TOKEN,
        "NX_NEMO_ADDRESS_2": " ",
        "NX_NEMO_TOKEN_2": "",
        "NX_NEMO_ADDRESS_12": "file:///srv/nemo",
        "NX_NEMO_NAME_12": "annex",
        "NX_NEMO_TZ_12": "Europe/Berlin",
    }
    servers, found = nemo_servers(given)
    assert found == []
    assert {name: server.address for name, server in servers.items()} == {
        "nemo": "https://one.example.org/api/",
        "annex": "file:///srv/nemo/",
    }
    assert servers["annex"].time_zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NX_DATA_PTH", "NX_DATA_PATH"),
        ("NX_NEMO_TOKN_3", "NX_NEMO_TOKEN_3"),
        ("NX_NEMO_ADDRES_1", "NX_NEMO_ADDRESS_1"),
        ("NX_IGNORE_PATTERN", "NX_IGNORE_PATTERNS"),
    ],
)
def test_misspelt_variables_are_recognised(name: str, meant: str) -> None:
    assert unknown_variables({name: "", meant: "", "NX_CDCS_URL": "", "HOME": ""}) == [
        f"{name} is not a known setting; did you mean {meant}?"
    ]


# Instruments


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "America/Denver",
            "America/Dever",
            "line 6: 'time_zone': 'America/Dever' is no time zone; did you mean 'America/D",
        ),
        ("folder: Titan", "folder: Titan\n    voltage_kv: [300, 60]", "line 6: 'voltage_kv': write the least and"),
        ("folder: Titan", "folder: Titan\n    voltage_kv: [60, 300000]", "none is above 3000 kV"),
        ("folder: Titan", "folder: Titan\n    voltage_kv: 300", "line 6: 'voltage_kv': Input should be a valid tuple"),
        ("id: Titan", "id: My Titan", "line 2: 'id': use letters, digits, '-' and '.'"),
        ("folder: Titan", "folder: ../Titan", "line 5: 'folder': name a folder below the root of instrument data"),
        ("tool: 10", "tool: ten", "line 4: 'nemo.tool': Input should be a valid integer"),
        ("name:", "title:", "line 3: 'title' is not a known setting; known are id, name, nemo"),
        ("    folder: Titan\n", "", "line 2: 'folder' is missing; add it."),
        ("  - id", "  - Talos\n  - id", "line 2: 'entry': Input should be a valid dictionary"),
        ("instruments:", "tools:", "begin with 'instruments:' and list one instrument per '- id:' below it."),
        ("{server", "{{server", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_list_is_named_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "instruments.yaml"
    path.write_text(TITAN.replace(old, new))
    with pytest.raises(ConfigurationError) as found:
        load_instruments(path)
    assert str(path) in str(found.value)
    assert words in str(found.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the ids 'Titan' and 'Titan' are the same but for case and punctuation; give each its own."),
        ({"Titan\n": "TITAN\n"}, "the ids 'Titan' and 'TITAN' are the same"),
        (
            {"id: Titan": "id: Talos", "folder: Titan": "folder: Talos"},
            "'Titan' and 'Talos' are both tool 10 of 'nemo'",
        ),
        ({"id: Titan": "id: Talos", "10": "11"}, "the folders of 'Titan' and 'Talos' lie in one another"),
        ({"id: Titan": "id: Talos", "10": "11", "folder: Titan": "folder: /Titan/x"}, "('Titan', 'Titan/x')"),
    ],
)
def test_two_instruments_that_clash_are_named_with_the_line_of_the_second(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    second = TITAN.partition("\n")[2]
    for old, new in changes.items():
        second = second.replace(old, new)
    path = tmp_path / "instruments.yaml"
    path.write_text(TITAN + second)
    with pytest.raises(ConfigurationError) as found:
        load_instruments(path)
    assert words in str(found.value)
    assert f"{path}, line 7: " in str(found.value)


def test_instruments_that_fit_together(tmp_path: Path) -> None:
    path = tmp_path / "instruments.yaml"
    other = TITAN.partition("\n")[2].replace("id: Titan", "id: Titan-2").replace("server: nemo", "server: annex")
    path.write_text(TITAN + other.replace("folder: Titan", "folder: Titan 2").replace("10", "'10'"))
    instruments = load_instruments(path)
    assert list(instruments) == ["Titan", "Titan-2"]
    assert {tool: each.id for tool, each in instruments.on_server("annex").items()} == {10: "Titan-2"}


# The doctor


def examine(facility: Facility) -> tuple[int, dict[str, tuple[bool, str]]]:
    """Exit code, and what was found of each subject."""
    out = io.StringIO()
    with facility.active(), redirect_stdout(out):
        code = main(["doctor", "--json"])
    assert TOKEN not in out.getvalue()
    found = json.loads(out.getvalue())
    return code, {each["subject"]: (each["fine"], each["message"]) for each in found}


def test_the_doctor_finds_a_healthy_site_fine_and_leaves_nothing_behind(written: Facility) -> None:
    (written.folder / "dagster_home").mkdir()
    (written.folder / "dagster_home" / "dagster.yaml").touch()
    before = {name: content for name, (_, content) in tree(written.folder).items()}
    code, found = examine(written)
    assert code == 0, found
    assert all(fine for fine, _ in found.values())
    assert {"settings", "NX_DATA_PATH", "Demo-Quanta-SEM", "nemo", "DAGSTER_HOME"} <= set(found)
    assert {name: content for name, (_, content) in tree(written.folder).items()} == before


def test_the_doctor_tells_the_mend_of_what_is_wrong_outside(written: Facility) -> None:
    (written.folder / "dagster_home").mkdir()
    (written.raw / "STEM lab").rmdir()
    written.answer("tools", [row for row in written.answers("tools") if row["id"] != 1])
    code, found = examine(written)
    assert code == 1
    fine, message = found["Demo-STEM-Lab"]
    assert not fine
    assert (
        f"{written.raw / 'STEM lab'} cannot be read (No such file or directory); mount the share or correct" in message
    )
    assert found["nemo"] == (False, "NEMO server 'nemo' has no tool 1; correct instruments.yaml.")
    assert found["DAGSTER_HOME"][0] is False
    assert "copy the project's there" in found["DAGSTER_HOME"][1]
    assert found["Demo-Quanta-SEM"][0]


def test_the_doctor_tells_the_mend_of_what_is_wrong_in_the_settings(written: Facility) -> None:
    path = written.folder / "instruments.yaml"
    text = path.read_text()

    written.set(NX_DATA_PTH="/srv/data", NX_NEMO_TOKEN_1=TOKEN)
    path.write_text(text.replace("server: nemo, tool: 3", "server: annex, tool: 3"))
    code, found = examine(written)
    assert code == 2
    assert "'Demo-STEM-Lab' on 'annex'. Configured servers: nemo." in found["instruments"][1]

    path.write_text(text.replace("folder: STEM lab", "folder: Quanta"))
    code, found = examine(written)
    assert code == 2
    assert "the folders of 'Demo-Quanta-SEM' and 'Demo-STEM-Lab' lie in one another" in found["instruments"][1]
    assert ", line " in found["instruments"][1]

    path.write_text(text)
    written.set(NX_FILE_STRATEGY="everything")
    with written.folder.joinpath("demo.env").open("a") as file:
        file.write("NX_DATA_PATH='data/../instruments'\n")
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch)
        for name, value in written.variables().items():
            patch.setenv(name, value)
        patch.chdir(written.folder)
        out = io.StringIO()
        with redirect_stdout(out):
            assert main(["doctor"]) == 2
    lines = out.getvalue().splitlines()
    assert "MEND   settings: NX_DATA_PTH is not a known setting; did you mean NX_DATA_PATH?" in lines
    assert any(line.startswith("MEND   settings: NX_FILE_STRATEGY: Input should be") for line in lines)
    assert TOKEN not in out.getvalue()


def test_the_doctor_without_any_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch)
        patch.chdir(tmp_path)
        assert main(["doctor"]) == 2
    told = capsys.readouterr().out
    assert "NX_DATA_PATH is not set" in told
    assert os.listdir(tmp_path) == []
