"""The demo facility: the same bytes everywhere, true vendor files, and NEMO answers that hold together."""

import json
import os
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from dotenv import dotenv_values

from nexuslims_pipeline.demo.digital_micrograph import DATA_TYPES, Calibration, digital_micrograph
from nexuslims_pipeline.demo.facility import saved_files, settings, write_facility
from nexuslims_pipeline.demo.fei_tiff import FEI_TAG, round_length
from nexuslims_pipeline.demo.week import INSTRUMENTS, TIME_ZONE, USES
from nexuslims_pipeline.instruments import load_instruments
from nexuslims_pipeline.sessions.model import window_contains

DAMAGED = "pearlite 03.tif"
ZONE = ZoneInfo(TIME_ZONE)


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo & co") / "facility"
    write_facility(folder)
    return folder


def written(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def raw_files(facility: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in (facility / "instruments").rglob(pattern) if path.name != DAMAGED)
    assert found
    return found


def saved_at(path: Path) -> datetime:
    """What the instrument's clock showed when the file was saved."""
    return datetime.fromtimestamp(path.stat().st_mtime, ZONE)


def iso_time(date: str, clock: str) -> datetime:
    return datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=ZONE)


def us_time(date: str, clock: str) -> datetime:
    return datetime.strptime(f"{date} {clock}", "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=ZONE)


def test_same_bytes_and_times_in_another_folder(facility: Path, tmp_path: Path) -> None:
    write_facility(tmp_path)
    first, second = written(facility), written(tmp_path)
    assert first.keys() == second.keys()
    written_anew = {name for name in first if not name.startswith("instruments/")}
    assert {name for name in first if first[name][0] != second[name][0]} == {"demo.env"}
    assert {name for name in first if first[name][1] != second[name][1]} <= written_anew


def test_writing_again_mends_and_leaves_the_rest_alone(facility: Path, tmp_path: Path) -> None:
    shutil.copytree(facility, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_ino for path in raw_files(tmp_path, "*") if path.is_file()}
    spoilt, late = list(before)[:2]
    spoilt.write_bytes(b"spoilt")
    os.utime(late)
    write_facility(tmp_path)
    assert written(tmp_path / "instruments") == written(facility / "instruments")
    replaced = {path for path, inode in before.items() if path.stat().st_ino != inode}
    assert replaced == {spoilt}


def test_it_is_small(facility: Path) -> None:
    sizes = [len(content) for content, _ in written(facility).values()]
    assert 35 <= len(sizes) <= 55
    assert sum(sizes) < 25e6


@pytest.mark.parametrize("name", ["plain", "with blank & $HOME"])
def test_settings_mean_the_same_to_a_shell_and_to_dotenv(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "demo.env"
    file.parent.mkdir()
    file.write_text(settings(file.parent), encoding="utf-8")
    command = 'set -a; . "$1"; env -0'
    shell = subprocess.run(["/bin/sh", "-c", command, "sh", file], capture_output=True, check=True, text=True)
    seen = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    wanted = dotenv_values(file)
    assert {variable: seen[variable] for variable in wanted} == wanted
    assert wanted["NX_DATA_PATH"] == str(file.parent / "data")


def test_a_folder_that_cannot_be_quoted_is_refused() -> None:
    with pytest.raises(ValueError, match="without quotes"):
        settings(Path("/tmp/it's"))


def test_instruments_are_valid_and_have_their_folders(facility: Path) -> None:
    instruments = load_instruments(facility / "instruments.yaml")
    tools = {tool["id"]: tool["name"] for tool in answer(facility, "tools")}
    for instrument in instruments.values():
        assert (facility / "instruments" / instrument.folder).is_dir()
        assert tools[instrument.nemo.tool] == instrument.name
    assert instruments["Demo-STEM-Lab"].clock_offset == timedelta(seconds=120)


def answer(facility: Path, endpoint: str) -> list[dict[str, Any]]:
    rows = json.loads((facility / "nemo" / f"{endpoint}.json").read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def test_every_id_resolves_and_every_time_has_a_zone(facility: Path) -> None:
    known = {name: {row["id"] for row in answer(facility, name)} for name in ("users", "projects", "tools")}
    for row in answer(facility, "usage_events") + answer(facility, "reservations"):
        people = [row[role] for role in ("user", "operator", "creator", "cancelled_by") if row.get(role)]
        assert known["users"].issuperset(people)
        assert row["project"] in known["projects"]
        assert row["tool"] in known["tools"]
        start = datetime.fromisoformat(row["start"])
        assert start.utcoffset() == timedelta(hours=-7)
        assert row["end"] is None or datetime.fromisoformat(row["end"]) > start
    members = {(user["id"], project) for user in answer(facility, "users") for project in user["projects"]}
    assert members == {(user, row["id"]) for row in answer(facility, "projects") for user in row["users"]}


def test_the_week_has_every_kind_of_session(facility: Path) -> None:
    events = {event["id"]: event for event in answer(facility, "usage_events")}
    after = {n: json.loads(event["run_data"]) for n, event in events.items() if event["run_data"]}
    before = {n: json.loads(event["pre_run_data"]) for n, event in events.items() if event["pre_run_data"]}
    assert set(after) == {101, 103, 104, 105, 107, 108}
    assert set(before) == {102, 109}
    assert events[109]["end"] is None
    assert events[109]["has_ended"] == 0
    assert {n for n, form in after.items() if form["data_consent"]["user_input"] == "Disagree"} == {105}
    assert {n for n, event in events.items() if event["operator"] != event["user"]} == {103}
    assert events[103]["start"][:10] != events[103]["end"][:10]
    assert set("&<") <= set(after[104]["experiment_title"]["user_input"])
    samples = after[101]["sample_group"]["user_input"]
    assert [row["sample_or_pid"] for row in samples.values()] == ["Sample Name", "PID"]
    assert samples["0"]["periodic_table"] == ["Au", "C"]
    assert "user_input" not in after[103]["experiment_purpose"]
    [booking] = [row for row in answer(facility, "reservations") if row["question_data"] and not row["cancelled"]]
    assert booking["start"] < events[106]["start"] < events[106]["end"] < booking["end"]


def test_files_lie_in_the_sessions_of_their_instrument() -> None:
    files_of: dict[int, list[str]] = {use.id: [] for use in USES}
    homeless = []
    for file in saved_files():
        instrument = next(i for i in INSTRUMENTS if i.folder == file.path.partition("/")[0])
        true_time = file.saved - instrument.clock_offset
        owners = [
            use.id
            for use in USES
            if use.tool == instrument.tool.id
            and window_contains(use.start, use.end or use.start + timedelta(days=1), true_time)
        ]
        for owner in owners:
            files_of[owner].append(file.path)
        homeless += [] if owners else [file.path]
    assert {use: len(files) for use, files in files_of.items()} == {
        101: 9, 102: 7, 103: 4, 104: 8, 105: 2, 106: 4, 107: 0, 108: 6, 109: 1,
    }  # fmt: skip
    assert homeless == ["Quanta/public/untitled.tif"]


def test_a_wrong_clock_moves_a_file_past_the_end_of_its_session() -> None:
    [use] = [use for use in USES if use.id == 108]
    [lab] = [file.saved for file in saved_files() if file.path.endswith("notes.txt")]
    assert use.end is not None
    assert lab - timedelta(seconds=120) < use.end < lab


def test_digital_micrograph_files_are_read_with_axes_voltage_and_time(facility: Path) -> None:
    from rsciio.digitalmicrograph import file_reader

    for path in raw_files(facility, "*.dm[34]"):
        [signal] = file_reader(path)
        spectrum_image = path.name == "SI 36x24.dm4"
        spectrum = "loss" in path.name or path.name.startswith("O K")
        shape = (512, 24, 36) if spectrum_image else (2048,) if spectrum else (512, 512)
        tags = signal["original_metadata"]["ImageList"]["TagGroup0"]["ImageTags"]
        assert signal["data"].shape == shape, path.name
        assert signal["metadata"]["General"]["title"] == path.stem
        assert signal["metadata"]["Signal"]["signal_type"] == ("EELS" if spectrum or spectrum_image else "")
        assert tags["Microscope Info"]["Voltage"] == 200_000
        bar = tags["DataBar"]
        assert us_time(bar["Acquisition Date"], bar["Acquisition Time"]) == saved_at(path)


def test_scales_agree_with_magnification(facility: Path) -> None:
    from rsciio.digitalmicrograph import file_reader

    folder = facility / "instruments" / "Talos"
    [image] = file_reader(folder / "mlindqvist/2026-03-02 Au on C/HRTEM 01.dm3")
    tags = image["original_metadata"]["ImageList"]["TagGroup0"]["ImageTags"]
    binning = tags["Acquisition"]["Parameters"]["High Level"]["Binning"][0]
    pixel_um = tags["Acquisition"]["Device"]["CCD"]["Pixel Size (um)"][0]
    magnification = tags["Microscope Info"]["Indicated Magnification"]
    assert image["axes"][0]["scale"] == pytest.approx(pixel_um * binning / magnification * 1000)
    assert image["axes"][0]["units"] == "nm"

    [scan] = file_reader(folder / "jokafor/EELS/HAADF 60 nm.dm4")
    tags = scan["original_metadata"]["ImageList"]["TagGroup0"]["ImageTags"]
    field_um = tags["Microscope Info"]["Field of View (µm)"]
    assert scan["axes"][1]["scale"] * 512 == pytest.approx(field_um * 1000)


def test_lattice_fringes_and_rings_have_the_spacings_of_gold(facility: Path) -> None:
    from rsciio.digitalmicrograph import file_reader

    folder = facility / "instruments" / "Talos/mlindqvist/2026-03-02 Au on C"
    [image] = file_reader(folder / "HRTEM 02.dm3")
    power = np.abs(np.fft.rfft2(image["data"] - image["data"].mean()))
    power[:, :40] = 0
    row, column = np.unravel_index(power[:256].argmax(), power[:256].shape)
    spacing = 512 * image["axes"][0]["scale"] / np.hypot(row, column)
    assert spacing == pytest.approx(0.2355, rel=0.03)

    [pattern] = file_reader(folder / "SAED 01 CL800.dm3")
    axis = pattern["axes"][0]
    k = axis["offset"] + axis["scale"] * np.arange(axis["size"])
    radius = np.hypot(k[:, None], k[None, :])
    profile = np.bincount((radius / 0.05).astype(int).ravel(), pattern["data"].ravel().astype(float))
    profile /= np.bincount((radius / 0.05).astype(int).ravel())
    first_ring = 0.05 * (60 + profile[60:120].argmax())
    assert 1 / first_ring == pytest.approx(0.2355, rel=0.03)


def test_energy_loss_edges_lie_where_they_should(facility: Path) -> None:
    from rsciio.digitalmicrograph import file_reader

    [low] = file_reader(facility / "instruments/Talos/jokafor/EELS/low loss.dm3")
    axis = low["axes"][0]
    assert axis["units"] == "eV"
    assert axis["offset"] + axis["scale"] * low["data"].argmax() == pytest.approx(0, abs=0.5)
    [image] = file_reader(facility / "instruments/Talos/jokafor/EELS/SI 36x24.dm4")
    energy = next(axis for axis in image["axes"] if axis["units"] == "eV")
    counts = image["data"].sum(axis=(1, 2))
    white_line = 260 + counts[260:340].argmax()
    assert energy["offset"] + energy["scale"] * white_line == pytest.approx(709, abs=3)


def test_fei_tiffs_are_read_with_their_tag(facility: Path) -> None:
    import tifffile

    for path in raw_files(facility, "*.tif"):
        with tifffile.TiffFile(path) as file:
            [page] = file.pages
            sections = page.tags[FEI_TAG].value
            rows, columns = page.asarray().shape
        picture, beam, scan = sections["Image"], sections["EBeam"], sections["EScan"]
        assert (rows, columns) == (
            picture["ResolutionY"] + sections["PrivateFei"]["DatabarHeight"],
            picture["ResolutionX"],
        )
        assert beam["HV"] == (10_000 if path.name.startswith("BSE") else 15_000)
        assert scan["PixelWidth"] * columns == pytest.approx(beam["HFW"], rel=1e-4)
        assert us_time(sections["User"]["Date"], sections["User"]["Time"]) == saved_at(path)


def test_hyperspy_understands_the_files_as_their_vendors(facility: Path) -> None:
    import hyperspy.api as hs

    root = facility / "instruments"
    sem = hs.load(root / "Quanta/rtanaka/ZTA/BSE 8 µm.tif")
    assert sem.metadata.Acquisition_instrument.SEM.beam_energy == 10
    assert sem.axes_manager[0].scale == pytest.approx(8e-6 / 512, rel=1e-4)
    maps = hs.load(root / "Talos/jokafor/EELS/SI 36x24.dm4")
    assert (maps.axes_manager.navigation_shape, maps.axes_manager.signal_shape) == ((36, 24), (512,))
    assert maps.metadata.General.time == "15:55:53"
    pattern = hs.load(root / "Talos/mlindqvist/2026-03-02 Au on C/SAED 01 CL800.dm3")
    assert pattern.metadata.Acquisition_instrument.TEM.camera_length == 800
    assert pattern.axes_manager[0].units == "1/nm"


def test_one_tiff_is_damaged(facility: Path) -> None:
    import tifffile

    [path] = (facility / "instruments").rglob(DAMAGED)
    assert path.read_bytes().startswith(b"II*\0")
    with pytest.raises((ValueError, tifffile.TiffFileError)):
        tifffile.imread(path)


def test_emsa_spectra_are_read_with_their_peaks(facility: Path) -> None:
    from rsciio.msa import file_reader

    for path in raw_files(facility, "*.msa"):
        [signal] = file_reader(path)
        head, axis = signal["original_metadata"], signal["axes"][0]
        assert signal["data"].shape == (2048,)
        assert head["BEAMKV   -kV"] == (15 if path.name.startswith("EDS") else 10)
        assert head["LIVETIME  -s"] < head["REALTIME  -s"]
        assert (
            f"{signal['metadata']['General']['date']}T{signal['metadata']['General']['time']}"[:16]
            == (saved_at(path).isoformat()[:16])
        )
        energy = axis["offset"] + axis["scale"] * np.arange(axis["size"])
        strongest = energy[energy > 1000][signal["data"][energy > 1000].argmax()]
        expected = {"EDS": 6404, "ZTA": 2042 if "bright" in path.name else 1487}[path.name[:3]]
        assert strongest == pytest.approx(expected, abs=30)


def test_hyperspy_files_are_read_with_axes_and_metadata(facility: Path) -> None:
    from rsciio.hspy import file_reader

    for path in raw_files(facility, "*.hspy"):
        [signal] = file_reader(path)
        general = signal["metadata"]["General"]
        assert signal["data"].shape == ((60, 512) if "line scan" in path.name else (256, 256))
        assert [bool(axis["navigate"]) for axis in signal["axes"]] == ["line scan" in path.name, False]
        assert signal["metadata"]["Acquisition_instrument"]["TEM"]["beam_energy"] == 100
        assert iso_time(general["date"], general["time"]) == saved_at(path)


def test_plain_pictures_open(facility: Path) -> None:
    from PIL import Image

    for path in raw_files(facility, "*.png"):
        with Image.open(path) as picture:
            assert picture.size == (400, 400)
            assert picture.getextrema()[1] == 255


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("dtype", sorted(DATA_TYPES))
def test_digital_micrograph_keeps_numbers_and_tags(tmp_path: Path, dtype: str, version: Any) -> None:
    from rsciio.digitalmicrograph import file_reader

    data = np.arange(12).reshape(3, 4).astype(dtype)
    tags = {
        "text": "µm & 日本",
        "empty": "",
        "yes": True,
        "negative": -5,
        "large": 2**32 - 1,
        "real": 0.1,
        "pair": (3, 0.5),
        "list": [{"a": 1}, {"a": 2}],
        "group": {"array": np.array([1.5, 2.5], np.float32)},
    }
    file = tmp_path / f"a.dm{version}"
    axes = [Calibration(0.5, "nm", origin=2.0), Calibration(2.0, "")]
    file.write_bytes(digital_micrograph(data, axes, "a", tags, version=version))
    [signal] = file_reader(file)
    np.testing.assert_array_equal(signal["data"], data)
    assert signal["data"].dtype == data.dtype
    assert [(axis["scale"], axis["offset"], axis["units"]) for axis in signal["axes"]] == [
        (2.0, 0.0, ""),
        (0.5, -1.0, "nm"),
    ]
    assert signal["original_metadata"]["ImageList"]["TagGroup0"]["ImageTags"] == {
        "text": "µm & 日本",
        "empty": [],
        "yes": True,
        "negative": -5,
        "large": 2**32 - 1,
        "real": 0.1,
        "pair": (3, 0.5),
        "list": {"TagGroup0": {"a": 1}, "TagGroup1": {"a": 2}},
        "group": {"array": [1.5, 2.5]},
    }


@pytest.mark.parametrize(("length", "rounded"), [(62.5, 50), (20, 20), (5, 5), (0.3, 0.2), (1.999, 1)])
def test_micron_bars_have_round_lengths(length: float, rounded: float) -> None:
    assert round_length(length) == pytest.approx(rounded)
