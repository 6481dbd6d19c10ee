"""Profiles and packages: what a site adds is applied where it belongs, and its mistakes cost what they touch only."""

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from facility import CERAMIC, Facility, built, built_once

from nexuslims_pipeline.cli import main
from nexuslims_pipeline.extraction.profiles.applying import apply_profiles, value_in_words
from nexuslims_pipeline.extraction.profiles.loading import load_profiles, profile_of
from nexuslims_pipeline.extraction.profiles.model import Profile, Rule
from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.extraction.standalone import source_of
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.metadata.units import quantity
from nexuslims_pipeline.signals import Signal, Source

__all__ = ["built", "built_once"]

ROOT = Path(__file__).parents[1]
CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
SOURCE = Source(Path("/root/DP600/area 1 SAED.dm3"), datetime(2026, 3, 4, tzinfo=UTC), 1)
YAML = """\
instruments: [Titan]
rules:
  - when: {extension: .dm3, values: {Mode: "(?i)diff", native/Info/Camera: Ultra}}
    dataset_type: Diffraction
    data_type: TEM_Diffraction
    fields: {camera_length: 300 mm, operator: null}
    warnings: {camera_length: It was read off the screen.}
  - extensions: {Room: B 217}
"""
PYTHON = """\
from nexuslims_pipeline.extraction.profiles.model import Profile
from nexuslims_pipeline.signals import Signal

def holder(signal: Signal) -> None:
    signal.extensions["Holder"] = "double tilt"

PROFILE = Profile(name="holder", instruments="*", parsers=(holder,))
"""


def signal(**extensions: Any) -> Signal:
    return Signal(
        "Image",
        "TEM_Imaging",
        fields={"operator": "jdoe", "acceleration_voltage": quantity(300, "kV")},
        extensions=extensions,
        native={"Info": {"Camera": "UltraScan", "A/B": 5}},
    )


def profile(folder: Path, text: str, name: str = "site.yaml") -> Profile:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (source,) = (source for source in load_profiles(folder).sources if source.place == str(folder / name))
    return profile_of(source)


# Rules and parsers


def test_a_rule_speaks_where_its_conditions_hold(tmp_path: Path) -> None:
    ours = profile(tmp_path / "profiles", YAML)
    found = signal(Mode="Diffraction")
    assert apply_profiles([ours], found, SOURCE, "digital_micrograph") == ["site"]
    assert (found.dataset_type, found.data_type) == ("Diffraction", "TEM_Diffraction")
    assert found.fields["camera_length"] == {"value": 300.0, "unit": "millimeter"}
    assert "operator" not in found.fields
    assert found.warnings == {"camera_length": "It was read off the screen."}
    assert found.extensions["Room"] == "B 217"
    other = signal(Mode="Imaging")
    apply_profiles([ours], other, SOURCE, "digital_micrograph")
    assert (other.dataset_type, other.extensions) == ("Image", {"Mode": "Imaging", "Room": "B 217"})


def test_conditions_find_values_wherever_they_are() -> None:
    found = signal(Detector={"Gain": 5, "Name": "ETD"})
    places = ("acceleration_voltage", "Acceleration Voltage", "Detector/Name", "native/Info/A/B", "native/No", "No")
    assert [value_in_words(found, place) for place in places] == ["300.0 kilovolt"] * 2 + ["ETD", "5", "", ""]


def test_a_step_that_fails_is_undone_and_told() -> None:
    def half(found: Signal) -> None:
        found.fields["operator"] = "somebody else"
        found.extensions["Nested"]["Gain"] = 6
        raise KeyError("Tecnai")

    good = Rule(extensions={"Room": "B 217"})
    ours = Profile(name="ours", instruments="*", parsers=(half,), rules=(good,))
    found = signal(Nested={"Gain": 5})
    apply_profiles([ours], found, SOURCE, "x")
    assert found.fields["operator"] == "jdoe"
    assert found.extensions == {"Nested": {"Gain": 5}, "Room": "B 217"}
    assert found.warnings == {"Profile ours": "half failed: KeyError: 'Tecnai'"}


@pytest.mark.parametrize(
    ("name", "value"), [("fields", None), ("dataset_type", 5), ("native", []), ("acquired", "yesterday"), ("shape", 3)]
)
def test_nonsense_is_undone_and_told(name: str, value: Any) -> None:
    found = signal()
    apply_profiles(
        [Profile(name="ours", instruments="*", parsers=(lambda it: setattr(it, name, value),))], found, SOURCE, "x"
    )
    assert found.warnings == {"Profile ours": f"<lambda> failed: TypeError: it makes '{name}' a {type(value).__name__}"}
    assert (found.dataset_type, found.fields["operator"]) == ("Image", "jdoe")


# Profiles that come along


def bundled(instrument: str) -> tuple[Profile, ...]:
    return load_profiles(None).of(instrument)


@pytest.mark.parametrize(
    ("name", "is_diffraction"),
    [("DP_01.dm3", True), ("a SAED.dm3", True), ("diff-3.dm3", True), ("adp.dm3", False), ("different.dm3", False)],
)
def test_jeol_tells_diffraction_by_whole_words_of_the_files_name(name: str, is_diffraction: bool) -> None:
    found = signal()
    apply_profiles(bundled("JEOL-JEM-TEM"), found, Source(Path("/DP600/SAED") / name, SOURCE.modified, 1), "x")
    assert (found.dataset_type == "Diffraction") is is_diffraction
    assert set(found.warnings) == {"DatasetType", "Data Type"}


def test_titan_stem_tells_filtered_diffraction_from_scanned_images() -> None:
    camera, scan = signal(**{"Imaging Mode": "EFTEM DIFFRACTION"}), signal(**{"Imaging Mode": "EFTEM DIFFRACTION"})
    scan.fields["illumination_mode"] = "STEM NANOPROBE"
    for found in (camera, scan):
        apply_profiles(bundled("FEI-Titan-STEM"), found, SOURCE, "digital_micrograph")
    assert (camera.data_type, scan.data_type) == ("TEM_EFTEM_Diffraction", "TEM_Imaging")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the shared corpus")
def test_the_state_of_a_titans_column_is_read_without_a_profile() -> None:
    read = read_as("Another", CORPUS / "dm3" / "08_carbon.dm3")
    meta = read.elements[0]["nx_meta"]
    assert meta["extraction_voltage"] == {"value": 4.0, "unit": "kilovolt"}
    assert meta["emission_current"] == {"value": 222.0, "unit": "microampere"}, "DigitalMicrograph's own goes before"
    assert meta["defocus"] == {"value": 183.0, "unit": "nanometer"}
    assert meta["condenser_aperture"] == {"value": 150.0, "unit": "micrometer"}
    assert "objective_aperture" not in meta, "it was retracted"
    assert "slit_width" not in meta, "it was retracted"
    assert meta["extensions"]["Diffraction Lens"] == {"value": -59.407, "unit": "percent"}


def read_as(instrument: str, path: Path, folder: Path | None = None) -> ReadFile:
    plain = source_of(path)
    source = Source(plain.path, plain.modified, plain.size, plain.companions, instrument_id=instrument)
    with sandbox(path.parent, 1, Limits(), rules=SiteRules(load_profiles(folder)), whole_folder=True) as pool:
        return next(pool.read([source], previews=False))


# Mistakes


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "rules: []\n", "a.yaml, line 1: 'instruments' is missing; add it."),
        ("a.yaml", YAML.replace("camera_length: 300", "camera_lenght: 300"), "a.yaml, line 6: 'rules.0.fields': "
         "'camera_lenght' is no named field; did you mean 'camera_length'?"),
        ("a.yaml", YAML.replace("300 mm", "300 s"), "line 6: 'rules.0.fields': 'camera_length': second is"),
        ("a.yaml", YAML.replace("300 mm", "far"), "'camera_length': 'far' is not a finite number"),
        ("a.yaml", YAML.replace("dataset_type: Diffraction", "dataset_type: Hologram"), "4: 'rules.0.dataset_type'"),
        ("a.yaml", YAML.replace("(?i)diff", "(diff"), "line 3: 'rules.0.when.values.Mode': Input should be a valid"),
        ("a.yaml", YAML.replace("extensions:", "extension:"), "line 8: 'rules.1.extension' is not a known entry."),
        ("a.yaml", YAML + "instruments: [Talos]\n", "line 9: 'instruments' stands twice in one entry; keep one."),
        ("a.yaml", YAML + "parsers: [os.system]\n", "line 9: 'parsers' are functions; write a Python profile"),
        ("a.yaml", "rules: {", "is not valid YAML"),
        ("a.yaml", "- x", "begin with 'instruments:'"),
        ("a.py", PYTHON.replace("PROFILE =", "PROFIL ="), "a.py, line 1: it sets no 'PROFILE'"),
        ("a.py", PYTHON.replace("parsers=(holder,)", "parsers=(folder,)"), "a.py, line 7: NameError"),
        ("a.py", PYTHON.replace("def holder(", "def holder"), "a.py, line 4: SyntaxError"),
        ("a.py", "PROFILE = 5\n", "'PROFILE' is a int; make it a Profile."),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "_draft.py").write_text("raise RuntimeError")
    (tmp_path / "notes.txt").write_text("no profile")
    with pytest.raises(ConfigurationError) as found:
        load_profiles(tmp_path)
    assert f"{tmp_path / name}" in str(found.value)
    assert told in str(found.value)


def test_the_doctor_tells_of_profiles(built: Facility) -> None:
    folder = built.folder / "profiles"
    folder.mkdir()
    (folder / "titan.yaml").write_text(YAML)
    (folder / "holder.py").write_text(PYTHON)
    built.set(NX_LOCAL_PROFILES_PATH=str(folder))

    def told() -> str:
        out = io.StringIO()
        with built.active(), redirect_stdout(out):
            main(["doctor"])
        return out.getvalue()

    assert f"MEND   profiles: {folder / 'titan.yaml'} is for 'Titan', which is no instrument" in told()
    (folder / "titan.yaml").write_text(YAML.replace("[Titan]", "[Demo-Quanta-SEM]"))
    assert f"ok     profiles: {folder} has holder, titan" in told()
    (folder / "titan.yaml").write_text("instruments: '*'\nrules: [{when: {reader: digital_micrograf}}]\n")
    assert "rule 1 is for the reader 'digital_micrograf', which is none; correct its name." in told()
    (folder / "holder.py").write_text("PROFILE = Profile(")
    assert f"MEND   profiles: {folder / 'holder.py'}, line 1: SyntaxError" in told()


# The way into records


def test_a_profile_reads_the_files_of_its_instrument_again_and_no_others(built: Facility) -> None:
    """In the children: without the site's variables, and without a way to the profiles' files."""
    folder = built.folder / "profiles"
    folder.mkdir()
    (folder / "holder.py").write_text(PYTHON.replace('"*"', '"Demo-STEM-Lab"'))
    built.set(NX_LOCAL_PROFILES_PATH=str(folder))
    assert built.build().causes == {}, "a profile of another instrument changes nothing here"

    (folder / "holder.py").write_text(PYTHON.replace('"*"', '"Demo-Quanta-SEM"'))
    assert built.build().causes[CERAMIC] == "the rules for its files changed"
    datasets = built.store.datasets(CERAMIC)
    assert datasets
    assert {dataset.nx_meta["extensions"]["Holder"] for dataset in datasets} == {"double tilt"}
    assert '<param name="Holder">double tilt</param>' in built.store.record_path(CERAMIC).read_text()
    assert built.build().causes == {}

    built.set(NX_OMIT_PERSONAL_DATA="true")
    before = built.store.record_path(CERAMIC).read_text()
    assert "Operator" in before
    assert built.build().causes[CERAMIC] == "the rules for its files changed"
    assert 'name="Operator"' not in built.store.record_path(CERAMIC).read_text()


# Packages


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a facility's own package, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(ROOT / "examples" / "facility_plugin", source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder / "site"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        if os.environ.get("CI") == "true":
            raise RuntimeError(done.stderr)
        pytest.skip(f"setuptools cannot be had here: {done.stderr[-200:]}")
    return folder / "site"


def extracted(package: Path, *files: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "nexuslims_pipeline.cli", "extract", "--json", *map(str, files)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NX_")}
    done = subprocess.run(
        command, cwd=files[0].parent, env=environment | {"PYTHONPATH": f"{package}:{ROOT}"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    elements: list[dict[str, Any]] = json.loads(done.stdout)
    return elements


def test_a_package_brings_a_reader_a_preview_and_a_profile(package: Path, tmp_path: Path) -> None:
    from PIL import Image

    good, misnamed = tmp_path / "run1.cnt", tmp_path / "run2.dat"
    for path in (good, misnamed):
        path.write_text("CNT1 5 8 13 2 40")
    element, other = extracted(package, good, misnamed)
    meta = element["nx_meta"]
    assert (meta["DatasetType"], meta["Data Type"], meta["Data Dimensions"]) == ("Spectrum", "SEM_CL", "(5,)")
    assert meta["working_distance"] == {"value": 12.0, "unit": "millimeter"}
    assert meta["extensions"] == {"Highest Count": 40, "Room": "B 217"}
    assert meta["Extraction Details"]["Profiles"] == "facility-counter"
    assert meta["warnings"] == []
    with Image.open(tmp_path / element["preview"]) as picture:
        assert (picture.size, picture.getpixel((440, 280))) == ((500, 300), (0, 0, 128))
    assert other["nx_meta"]["warnings"] == [
        {"field": "File Name", "reason": "Its name says .dat, its content is Facility photon counter"}
    ]


def test_a_broken_package_costs_only_itself(package: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(package, broken)
    module = broken / "facility_plugin.py"
    path = tmp_path / "run1.cnt"
    path.write_text("CNT1 5 8 13")

    whole = module.read_text()
    module.write_text(whole.replace("from PIL import Image, ImageDraw", "raise ValueError('no font')"))
    (element,) = extracted(broken, path)
    assert element["preview"], "drawn in the usual way"
    (warning,) = element["nx_meta"]["warnings"]
    assert warning["reason"] == "'facility_counter' failed, drawn in the usual way: ValueError: no font"

    for extract, told in (
        ("return None", "its reader found no data in it"),
        ("return 5", "its reader 'facility_counter' gives a int where a Signal should be"),
        ("return iter(['x'])", "its reader 'facility_counter' gives a str where a Signal should be"),
    ):
        module.write_text(whole.replace("import numpy as np", extract))
        (element,) = extracted(broken, path)
        assert element["nx_meta"]["warnings"][0]["reason"] == f"The file was not read: {told}"
    module.write_text(whole.replace("return head.startswith(MAGIC)", "raise TypeError('no head')"))
    (element,) = extracted(broken, path)
    assert "'facility_counter' failed to look at it: TypeError: no head" in element["nx_meta"]["warnings"][0]["reason"]

    module.write_text("import a_package_that_is_not_there\n" + whole)
    (element,) = extracted(broken, path)
    assert element["nx_meta"]["DatasetType"] == "Unknown"
    code = "from nexuslims_pipeline.doctor import _plugins; print([f.message for f in _plugins() if not f.fine])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(broken)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for kind in ("extractor", "preview", "profile"):
        assert f"{kind} 'counter' (facility_plugin:" in done.stdout
    assert "ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in done.stdout
