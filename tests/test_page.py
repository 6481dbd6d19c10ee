"""The page of a session: everything is told, nothing but text comes from outside, and its size is bounded."""

import dataclasses
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from publications import ADA, KEY, publication

from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.model import Link, Publication
from nexuslims_pipeline.publication.page import MOST_DATASETS, MOST_LINES, page
from nexuslims_pipeline.sessions.model import Person, Sample

ELEMENTS = {"div", "h2", "h3", "p", "table", "tr", "th", "td", "ul", "li", "a", "img"}
ATTRIBUTES = {"a": ["href"], "img": ["src", "alt"]}
HOSTILE = st.text(min_size=1, max_size=60) | st.sampled_from(
    ["<script>alert(1)</script>", "</td></table><iframe src=x>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;", "<!--"]
)


def parsed(text: str) -> Any:
    return html.fragment_fromstring(text, create_parent="div")


def shown(text: str) -> str:
    return " ".join(parsed(text).text_content().split())


def refused(count: int) -> tuple[InventoryEntry, ...]:
    return tuple(InventoryEntry(f"/Quanta/bad%20{n:04}.dm3", "refused", f"damaged <{n}>") for n in range(count))


def test_everything_of_the_session_is_told(tmp_path: Path) -> None:
    told = page(
        publication(
            tmp_path,
            operator=Person(username="bob", first_name="Bob"),
            warnings=("a sample without a name",),
            refused=refused(1),
            links={"cdcs": Link("CDCS record", "https://cdcs.example.org/data?id=5&x=1")},
        )
    )

    text = shown(told)
    for expected in (
        "Grain boundaries",
        KEY,
        "Quanta SEM – Größe µm (Building 7)",
        "2026-03-02 09:00:00 -07:00 (America/Denver)",
        ADA.display_name,
        "Bob (bob)",
        "MD-2026-1 – Oxide films",
        "To see where the weld cracks.",
        "weld A; etched; Fe, Cr",
        "Activity 2: 2026-03-02 09:02:00 -07:00 to 2026-03-02 09:03:00 -07:00",
        "Setup: Acceleration Voltage 10 kV",
        "image 2.tif 2026-03-02 09:03:00 -07:00 Image SEM_Imaging FEI/Thermo TIFF".replace(" ", ""),
        "Doubtful values1",
        "damaged <0>",
        "a sample without a name",
    ):
        assert expected in text or expected in text.replace(" ", "")
    links = [link.get("href") for link in parsed(told).iter("a")]
    assert links == ["https://nemo.example.org/event_details/usage/104/", "https://cdcs.example.org/data?id=5&x=1"]


def test_same_publication_gives_the_same_page(tmp_path: Path) -> None:
    made = publication(tmp_path)
    turned = dataclasses.replace(made, datasets=made.datasets[::-1], files=made.files[::-1])

    assert page(made) == page(turned)


def test_page_of_a_large_session_is_bounded_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    small = publication(tmp_path, datasets=2, refused=refused(3 * MOST_LINES))
    (one, other) = small.datasets
    many = tuple(dataclasses.replace(one, index=n, name='"' * 250 + f"{n}.tif") for n in range(4999))
    made = dataclasses.replace(small, datasets=(*many, other))

    told = page(made)

    assert len(told.encode()) < 4_000_000
    rows = sum(len(table.findall("tr")) - 1 for table in parsed(told).iter("table"))
    assert rows < MOST_DATASETS + MOST_LINES + 20
    text = shown(told)
    assert "Datasets5000" in text.replace(" ", "")
    assert f"{4999 - MOST_DATASETS} more datasets are not listed here" in text
    assert "1 more datasets are not listed here" in text
    assert f"{2 * MOST_LINES} more files are not listed here" in text


def test_pictures_are_shown_as_the_notebook_can_and_no_more_than_asked(tmp_path: Path) -> None:
    made = publication(tmp_path, datasets=5)

    def picture(dataset: Dataset, path: Path) -> str | None:
        return f'/files/"{path.name}"&<1>' if dataset.name != "image 1.tif" else None

    assert list(parsed(page(made)).iter("img")) == []
    told = page(made, picture=picture, most_pictures=3)
    paths = [path for _, path in made.previews()]
    assert [image.get("src") for image in parsed(told).iter("img")] == [
        f'/files/"{paths[n].name}"&<1>' for n in (0, 2, 3)
    ]
    assert "2 previews are left out here" in shown(told)
    size = paths[0].stat().st_size
    assert len(list(parsed(page(made, picture=picture, most_picture_bytes=2 * size)).iter("img"))) == 2


def test_addresses_that_are_no_pages_are_no_links(tmp_path: Path) -> None:
    made = publication(
        tmp_path,
        link="javascript:alert(1)",
        links={"cdcs": Link("CDCS record", "data:text/html,x"), "other": Link("Other", "http://[broken")},
        samples=(Sample(id="s", name="a", pid="vbscript:x"), Sample(id="t", name="b", pid="https://hdl.example/1")),
    )

    assert [link.get("href") for link in parsed(page(made)).iter("a")] == ["https://hdl.example/1"]


def test_session_of_which_little_is_known(tmp_path: Path) -> None:
    made = publication(
        tmp_path, title=None, datasets=0, user=None, project=None, samples=(), link=None, motivation=None
    )

    assert "Experiment on the Quanta" in shown(page(made))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(HOSTILE, min_size=6, max_size=6))
def test_any_text_is_text(tmp_path: Path, texts: list[str]) -> None:
    name, vendor, value, reason, url, who = texts
    made = _with(publication(tmp_path, datasets=1, refused=refused(1)), name, vendor, value, reason, url, who)

    told = page(made, picture=lambda dataset, path: name)

    root = parsed(told)
    assert {element.tag for element in root.iter()} <= ELEMENTS
    for element in root.iter():
        assert [*element.attrib] == ATTRIBUTES.get(element.tag, [])
    assert len(list(root.iter("td"))) == len(list(parsed(page(_with(made, *"abcdef"))).iter("td")))


def _with(made: Publication, name: str, vendor: str, value: str, reason: str, url: str, who: str) -> Publication:
    """The same session with other texts wherever they come from outside."""
    dataset = made.datasets[0]
    meta = dataset.nx_meta | {"specimen": value, "Data Type": value, "Creation Time": value}
    person = Person(username=who, first_name=who)
    session = made.session.model_copy(
        update={
            "title": f"t{name}",
            "motivation": value,
            "user": person,
            "samples": (Sample(id="s", name=f"s{name}", pid=url, description=value),),
            "link": url,
            "warnings": (reason,),
        }
    )
    return dataclasses.replace(
        made,
        session=session,
        datasets=(dataclasses.replace(dataset, name=name, format=vendor, nx_meta=meta),),
        files=(dataclasses.replace(made.refused[0], reason=reason),),
        links={"cdcs": Link(f"l{name}", url)},
    )
