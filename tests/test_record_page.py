"""The page of a session, as a browser shows it."""

import functools
import gzip
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from browser import Opened, chromium, grave_faults, opened
from facility import WELD, Facility, built_once
from lxml import etree
from playwright.sync_api import Page, expect
from publications import publication

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.portal.files import site_files
from nexuslims_pipeline.portal.page import Places, cdcs_stylesheet, record_page
from nexuslims_pipeline.records.build import build_record
from nexuslims_pipeline.sessions.model import Person, Sample

__all__ = ["built_once", "chromium", "opened"]

PLACES = Places(
    datasets="../../datasets", raw="../../../instruments", records="../../records", crates="../../crates", home="../x"
)
HOSTILE = "<script>window.ran = 1</script>\"'><img src=x onerror='window.ran = 1'>]]> & \u202eabc مرحبا"


class Folder:
    """A store with a portal in it, reached as files or over HTTP."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, content in site_files().items():
            self.write(f"data/portal/site/{name}", content)

    def write(self, name: str, content: bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path.as_uri()

    def page(self, xml: bytes, places: Places = PLACES) -> str:
        """Address of the page of a record."""
        return self.write("data/portal/2026/page.html", record_page(xml, places))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def weld(built_once: Facility, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of a real session: eight files in three activities, one of them damaged."""
    root = tmp_path_factory.mktemp("weld")
    folder = Folder(root)
    shutil.copytree(built_once.data / "datasets", root / "data/datasets")
    return folder.page((built_once.data / f"records/{WELD[:4]}/{WELD}.xml").read_bytes())


@pytest.fixture
def served(folder: Folder) -> Iterator[str]:
    """Address of the folder over HTTP."""
    handler = functools.partial(QuietHandler, directory=folder.root)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {**SimpleHTTPRequestHandler.extensions_map, "": "text/html"}

    def log_message(self, *arguments: object) -> None:
        pass


def row(page: Page, name: str) -> Any:
    return page.locator(".nx-datasets tbody tr").filter(has=page.get_by_text(name, exact=True))


def test_a_page_tells_of_its_session_and_asks_nobody_else(weld: str, opened: Opened) -> None:
    page, watched = opened(weld)
    expect(page).to_have_title("Weld A & base metal: grains < 15 µm")
    header = page.locator(".nx-header")
    for told in ("Quanta 450 FEG (demo)", "Jonas Okafor", "2026-03-02 10:00 – 12:10 UTC−07:00", "Grain size and share"):
        expect(header).to_contain_text(told)
    assert page.locator(".nx-counts li").all_inner_texts() == [
        "8 datasets", "Image 5", "Spectrum 2", "Unknown 1", "3 activities", "⚠ 3 doubtful values",
    ]  # fmt: skip
    assert page.locator(".nx-elements li").all_inner_texts() == ["Fe", "C", "Mn", "Si"]
    assert page.locator(".nx-navigation li").all_inner_texts()[2].split() == [
        "3",
        "11:36",
        "SEM",
        "EDS",
        "2",
        "datasets",
    ]
    expect(row(page, "grains 01.tif")).to_contain_text("10:22:15")
    expect(page.locator(".nx-beside img").first).to_have_js_property("complete", True)
    assert page.locator(".nx-xml").get_attribute("href") == f"../../records/2026/{WELD}.xml"
    assert page.locator(".nx-crate").get_attribute("href") == f"../../crates/2026/{WELD}.eln"
    assert watched.errors == []
    assert {urlsplit(address).scheme for address in watched.addresses} <= {"file", "data"}


@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}])
def test_a_page_is_accessible_in_every_look(weld: str, opened: Opened, look: dict[str, Any]) -> None:
    page, _ = opened(weld, **look)
    assert grave_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    row(page, "pearlite 01.tif").get_by_text("Metadata").click()
    assert grave_faults(page) == []


def test_the_gallery_follows_keys_buttons_slider_and_thumbnails(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    caption, position = page.locator(".nx-large figcaption"), page.locator(".nx-steps output")
    expect(position).to_have_text("1 of 7")
    page.keyboard.press("ArrowRight")
    expect(caption).to_contain_text("grains 01.tif")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(caption).to_contain_text("EDS inclusion.msa")
    page.get_by_label("Next preview").click()
    expect(position).to_have_text("1 of 7")
    page.get_by_label("Next preview").press("End")
    expect(position).to_have_text("7 of 7")
    page.get_by_role("slider").press("ArrowLeft")
    expect(position).to_have_text("6 of 7")
    page.locator(".nx-strip button").nth(3).click()
    expect(caption).to_contain_text("pearlite 01.tif")
    expect(page.locator(".nx-strip [aria-current=true]")).to_have_attribute("title", "pearlite 01.tif")
    page.get_by_text("In the listing").click()
    assert page.evaluate("document.querySelector(':target').id") == "nx-2-1"
    expect(row(page, "pearlite 01.tif")).to_be_in_viewport()


def test_the_gallery_follows_a_finger(weld: str, opened: Opened) -> None:
    page, _ = opened(weld, has_touch=True)
    page.evaluate(
        """() => {
            const figure = document.querySelector(".nx-large");
            const touch = (x) => new Touch({ identifier: 1, target: figure, clientX: x, clientY: 300 });
            figure.dispatchEvent(new TouchEvent("touchstart", { touches: [touch(500)], changedTouches: [touch(500)] }));
            figure.dispatchEvent(new TouchEvent("touchend", { touches: [], changedTouches: [touch(380)] }));
        }"""
    )
    expect(page.locator(".nx-steps output")).to_have_text("2 of 7")


def test_pointer_and_focus_show_the_preview_of_a_row(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    beside = page.locator(".nx-beside").nth(1)
    row(page, "pearlite 02.tif").hover()
    expect(beside).to_contain_text("pearlite 02.tif · Image · 10:59:50")
    expect(beside.locator("img")).to_have_attribute(
        "src", row(page, "pearlite 02.tif").locator(".nx-preview").evaluate("a => a.href")
    )
    row(page, "pearlite 01.tif").get_by_role("link", name="JSON").focus()
    expect(beside).to_contain_text("pearlite 01.tif · Image")
    page.keyboard.press("ArrowDown")
    expect(row(page, "pearlite 02.tif").get_by_role("link", name="JSON")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(beside).to_have_text("pearlite 03.tif: no preview")
    expect(beside.locator("img")).to_be_hidden()


def test_dialogs_of_metadata_and_setup_can_be_filtered_and_left_by_key(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    values = row(page, "grains 01.tif").get_by_text("Metadata")
    values.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="grains 01.tif")
    field, shown = dialog.get_by_role("searchbox"), dialog.locator("tbody tr:not(.nx-group):visible")
    expect(field).to_be_focused()
    expect(dialog).to_contain_text("/Quanta/J. Okafor/weld A/grains 01.tif")
    page.keyboard.type("field µm")
    expect(shown).to_have_count(2)
    assert shown.first.locator("th, td").all_inner_texts()[:3] == ["Horizontal Field Width", "80", "µm"]
    field.fill("operator")
    expect(shown).to_contain_text(["⚠ doubtful"])
    field.fill("nothing like it")
    expect(dialog.get_by_text("No value has all of these words.")).to_be_visible()
    dialog.get_by_label("Next dataset").click()
    expect(page.get_by_role("dialog", name="grains 02.tif").get_by_role("searchbox")).to_have_value("nothing like it")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row(page, "grains 02.tif").locator("summary")).to_be_focused()

    page.get_by_text("Setup parameters").nth(2).click()
    dialog = page.get_by_role("dialog", name="Activity 3")
    dialog.get_by_role("searchbox").fill("voltage")
    assert dialog.locator("tbody tr:visible").all_inner_texts() == ["Acceleration Voltage\t15\tkV"]


def test_the_filter_looks_into_names_types_metadata_and_setup(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    field = page.get_by_role("searchbox", name="Filter datasets")
    told, shown = page.locator(".nx-filter output"), page.locator(".nx-datasets tbody tr:visible .nx-name")
    for wanted, names in {
        "PEARLITE": ["pearlite 01.tif", "pearlite 02.tif", "pearlite 03.tif"],
        "spectrum inclusion": ["EDS inclusion.msa"],
        "156.25 nm grains": ["grains 01.tif", "grains 02.tif"],
        "sdDutw": ["EDS ferrite.msa", "EDS inclusion.msa"],
        "no such thing": [],
    }.items():
        field.fill(wanted)
        expect(told).to_have_text(f"{len(names)} of 8 datasets" if names else "No dataset has all of these words.")
        expect(shown).to_have_text(names)
    field.fill("eds")
    expect(page.locator(".nx-activity:visible")).to_have_count(1)
    expect(page.locator(".nx-steps output")).to_have_text("1 of 2")
    field.fill("")
    expect(page.locator(".nx-activity:visible")).to_have_count(3)


def test_the_time_line_leads_to_the_activities(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    bars = page.locator(".nx-timeline a")
    assert bars.locator("title").all_text_contents()[1] == "Activity 2, from 10:58, 3 datasets"
    assert page.locator("text.nx-hour").all_text_contents() == ["10:00", "10:30", "11:00", "11:30", "12:00"]
    assert bars.first.locator("rect").get_attribute("x") == "16.154%"
    bars.nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#nx-activity-3")).to_be_in_viewport()
    expect(page.locator(".nx-navigation .nx-here .nx-number").last).to_have_text("3")


def test_without_scripts_everything_can_be_read(weld: str, opened: Opened) -> None:
    page, _ = opened(weld, java_script_enabled=False)
    expect(page.locator(".nx-large img")).to_be_visible()
    row(page, "grains 01.tif").get_by_text("Metadata").click()
    expect(row(page, "grains 01.tif").locator("pre")).to_contain_text("Horizontal Field Width\t80\tµm")
    page.get_by_text("Setup parameters").first.click()
    expect(page.get_by_role("row", name="Acceleration Voltage 15 kV").first).to_be_visible()


def test_print_has_the_parameters_and_no_controls(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    page.emulate_media(media="print")
    expect(page.get_by_role("row", name="Acceleration Voltage 15 kV").first).to_be_visible()
    for part in (".nx-filter", ".nx-navigation", ".nx-steps", ".nx-tools"):
        expect(page.locator(part)).to_be_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_nothing_from_outside_becomes_markup_or_script(folder: Folder, opened: Opened) -> None:
    refused = InventoryEntry("/Quanta/%3Cb%3E%20%FF.tif", "refused", HOSTILE, 1, 1)
    made = publication(
        folder.root / "data/datasets",
        title=HOSTILE,
        motivation=HOSTILE + "w" * 10_000,
        user=Person(username=HOSTILE, first_name=HOSTILE, last_name="x", email=""),
        samples=(
            Sample(id=HOSTILE, name=HOSTILE, description=HOSTILE, elements=("Fe",), pid="javascript:window.ran = 1"),
            Sample(id="2", pid="hdl:20.500/x"),
        ),
        link="javascript:window.ran = 1",
        names=["<b>'\"&]]>\u202e مرحبا.tif", "n" * 240 + ".tif", "a\nb\tc%2F.tif"],
        refused=(refused,),
    )
    first, *others = made.datasets
    worse = replace(first, format=HOSTILE, description=HOSTILE, nx_meta={**first.nx_meta, HOSTILE: HOSTILE * 500})
    xml = build_record(made.session, HOSTILE, "America/Denver", [worse, *others], made.activities, (refused,))
    page, watched = opened(folder.page(xml))
    expect(page.locator("h1")).to_have_text(HOSTILE)
    page.locator(".nx-values summary").first.click()
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)
    page.get_by_role("searchbox", name="Filter values").fill("window.ran")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.get_by_role("searchbox", name="Filter datasets").fill("<b>")
    expect(page.locator(".nx-filter output")).to_have_text("1 of 3 datasets")
    assert page.evaluate("window.ran") is None
    assert page.locator("article script, article [onerror], a[href^='javascript:']").count() == 0
    assert page.get_by_role("link", name="hdl:20.500/x").get_attribute("href") == "https://hdl.handle.net/20.500/x"
    assert page.locator("#nx-refused td").all_inner_texts()[:2] == ["/Quanta/%3Cb%3E%20%FF.tif", "refused"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".nx-motivation").evaluate("text => text.offsetHeight < innerHeight / 2")
    assert watched.errors == []
    assert grave_faults(page) == []


def test_a_session_without_anything_says_so(folder: Folder, opened: Opened) -> None:
    made = publication(folder.root, title=None, motivation=None, user=None, project=None, samples=(), link=None)
    xml = build_record(made.session, "SEM", "America/Denver", [], [], ())
    page, watched = opened(folder.page(xml, Places()))
    for told in ("No sample was named.", "No file of this session has a preview.", "This session has no data files."):
        expect(page.get_by_text(told)).to_be_visible()
    assert watched.errors == []
    assert page.locator("main a").count() == 0
    assert grave_faults(page) == []


def test_the_files_of_a_session_come_as_one_archive(folder: Folder, served: str, opened: Opened) -> None:
    names = ["a µ.tif", "CON?.tif", "lost.tif"]
    made = publication(folder.root / "data/datasets", names=names)
    folder.page(made.xml)
    folder.write(f"data/records/2026/{made.key}.xml", made.xml)
    for name in names[:2]:
        folder.write(f"instruments/Quanta/{name}", name.encode() * 100_000)
    page, _ = opened(f"{served}/data/portal/2026/page.html")
    page.get_by_role("button", name="Files").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").click()
    expect(page.get_by_text("Done; 1 file could not be fetched")).to_be_visible()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            f"{made.key}.xml", "Quanta/CON_.tif", "Quanta/CON_.tif.json", "Quanta/a µ.tif", "Quanta/a µ.tif.json",
            "Quanta/lost.tif.json", "missing files.txt",
        ]  # fmt: skip
        assert archive.read("Quanta/a µ.tif") == "a µ.tif".encode() * 100_000
        assert archive.read(f"{made.key}.xml") == made.xml
        assert b"/Quanta/lost.tif" in archive.read("missing files.txt")


def test_from_a_file_share_the_paths_can_be_copied(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    page.get_by_role("searchbox", name="Filter datasets").fill("ferrite")
    expect(page.locator(".nx-filter output")).to_have_text("1 of 8 datasets")
    page.get_by_role("button", name="Files").click()
    expect(page.get_by_label("Paths of the raw files")).to_have_value("/Quanta/J. Okafor/weld A/EDS ferrite.msa")
    expect(page.get_by_role("button", name="Download as zip")).to_have_count(0)
    page.get_by_role("button", name="Copy paths").click()
    expect(page.get_by_text("1 path copied.")).to_be_visible()


def test_the_record_comes_as_json(weld: str, opened: Opened) -> None:
    page, _ = opened(weld)
    with page.expect_download() as download:
        page.get_by_role("button", name="Record (JSON)").click()
    record = json.loads(download.value.path().read_text())
    assert record["key"] == WELD
    assert record["samples"][0]["elements"] == ["Fe", "C", "Mn", "Si"]
    assert record["activities"][2]["setup"]["Acceleration Voltage"] == {"value": "15", "unit": "kV"}
    grains = record["activities"][0]["datasets"][1]
    assert (grains["name"], grains["metadata"]["Magnification"]) == ("grains 01.tif", {"value": "1600"})
    assert record["activities"][0]["setup"]["Operator"]["doubtful"] is True


def large_record(folder: Path, count: int, values: int) -> bytes:
    """XML of a session with many datasets in seven activities, each dataset with many values of its own."""
    made = publication(folder, names=["image.tif"])
    (pattern,) = made.datasets
    datasets = [
        replace(
            pattern,
            name=f"image {n}.tif",
            location=f"/Quanta/image%20{n}.tif",
            preview=f"/Quanta/image%20{n}.tif.thumb.png",
            modified_ns=pattern.modified_ns + n * 10**9,
            nx_meta={
                **pattern.nx_meta,
                **{f"Detector {k:02} Gain": {"value": n + k / 100, "unit": "volt"} for k in range(values)},
            },
        )
        for n in range(count)
    ]
    parts = [datasets[start : start + count // 7 + 1] for start in range(0, count, count // 7 + 1)]
    activities = [
        Activity(part[0].modified_ns, part[-1].modified_ns, tuple(dataset.location for dataset in part))
        for part in parts
    ]
    session = made.session.model_copy(update={"end": made.session.start + timedelta(hours=2)})
    return build_record(session, "SEM", made.instrument.time_zone, datasets, activities, ())


def test_five_thousand_datasets_can_be_used(folder: Folder, opened: Opened) -> None:
    xml = large_record(folder.root / "data/datasets", 5000, 60)
    address = folder.page(xml)
    html = (folder.root / "data/portal/2026/page.html").read_bytes()
    assert len(html) < len(xml)
    assert len(gzip.compress(html, 1)) < 2**22
    page, _ = opened(address)
    expect(page.locator(".nx-filter output")).to_have_text("5000 datasets")
    expect(page.locator(".nx-strip button")).to_have_count(40)
    page.locator(".nx-steps button").last.press("End")
    expect(page.locator(".nx-large figcaption")).to_contain_text("image 4999.tif")
    page.locator(".nx-large figcaption a").click()
    expect(page.locator("#nx-7-710")).to_be_in_viewport()
    field = page.locator("#nx-filter")
    field.fill("gain 4321.59 V")
    expect(page.locator(".nx-filter output")).to_have_text("1 of 5000 datasets")
    page.locator("#nx-7-32 summary").click()
    expect(page.locator("dialog h2")).to_have_text("image 4321.tif")
    expect(page.locator("dialog tbody tr").last).to_contain_text("Extraction Details – Module")


# CDCS


def test_in_cdcs_one_text_holds_stylesheet_styles_script_and_places(
    folder: Folder, served: str, opened: Opened
) -> None:
    made = publication(folder.root / "data/datasets", names=["a µ.tif"], title=HOSTILE)
    places = Places(datasets=f"{served}/data/datasets/", raw="https://files.example.org/em's")
    stylesheet = etree.XSLT(etree.fromstring(cdcs_stylesheet("record", places)))
    article = str(stylesheet(etree.fromstring(made.xml)))
    style = "<style>table, h1 { color: red; font-size: 40px }</style>"
    head = f'<meta charset="utf-8"><title>CDCS</title><link rel="icon" href="data:,">{style}'
    folder.write("cdcs/data", f'<!DOCTYPE html><html lang="en">{head}<body>{article}'.encode())
    page, watched = opened(f"{served}/cdcs/data?id=7", color_scheme="dark")
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert page.locator("a.nx-name").get_attribute("href") == "https://files.example.org/em's/Quanta/a%20%C2%B5.tif"
    expect(page.locator(".nx-large img")).to_have_js_property("naturalWidth", 1)
    assert page.locator(".nx-xml").evaluate("a => a.href") == f"{served}/cdcs/rest/data/download/7/"
    page.locator(".nx-values summary").click()
    expect(page.get_by_role("dialog", name="a µ.tif")).to_be_visible()
    assert page.locator(".nx-record").evaluate("a => getComputedStyle(a).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("window.ran") is None
    assert watched.errors == []


def test_a_result_in_cdcs_says_the_most_important(folder: Folder) -> None:
    made = publication(folder.root, title=HOSTILE, motivation="why " * 100)
    result = etree.XSLT(etree.fromstring(cdcs_stylesheet("list", Places())))(etree.fromstring(made.xml))
    told = ["".join(part.itertext()) for part in result.getroot().findall("div")]
    assert told[:3] == [
        HOSTILE,
        "Quanta SEM – Größe µm · Ada Adeyemi (ada) · 2026-03-02 09:00 · 3 datasets (Image 3)",
        "weld A Fe Cr",
    ]
    assert told[3].endswith("…")
    assert "<script" not in str(result)


def test_a_record_brings_no_other_file_into_its_page() -> None:
    page = record_page(b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x><title>&e;</title></x>', PLACES)
    assert b"root:" not in page
    with pytest.raises(etree.XMLSyntaxError):
        record_page(b"<Experiment", PLACES)
