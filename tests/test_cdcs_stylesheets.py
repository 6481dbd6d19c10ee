"""Our stylesheets in a real CDCS 2.23: what the set-up changes there, and what a browser shows then."""

import functools
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from browser import Opened, chromium, opened  # noqa: F401 (fixtures)
from cdcs_server import HOME, CdcsNotInstalledError, CdcsProcess
from playwright.sync_api import Page, Route, expect
from publications import KEY, publication
from pydantic import SecretStr

from nexuslims_pipeline import cli
from nexuslims_pipeline.configuration import settings
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.portal.page import Places, record_page
from nexuslims_pipeline.sessions.model import Sample
from resources.destinations.base import DestinationUnavailableError
from resources.destinations.cdcs import Cdcs, Choices
from resources.destinations.cdcs_stylesheets import DETAIL, LIST, Stylesheets

pytestmark = pytest.mark.server

PLACES = Places(datasets="https://data.example.org/datasets", raw="https://data.example.org/raw")
OURS = (LIST, DETAIL, {DETAIL})
OTHER_SCHEMA = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a"/></xs:schema>'
OTHER_STYLESHEET = (
    '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/">'
    "<p>Another page</p></xsl:template></xsl:stylesheet>"
)
HOSTILE = "<script>window.ran = 1</script>\"'><img src=x onerror='window.ran = 1'></style>]]> & \u202eabc"
JQUERY = next(HOME.glob("lib/*/site-packages/django/contrib/admin/static/admin/js/vendor/jquery/jquery.js"), None)
BOOTSTRAP = """
    *, ::before, ::after { box-sizing: border-box }
    body { margin: 0; font: 400 1rem/1.5 serif; color: #212529; background: #fff; text-align: left }
    a { color: #d33; text-decoration: none } a:hover { color: #600 }
    h1, h2, h3 { margin: 0 0 .5rem; font-weight: 500; line-height: 1.2 } h1 { font-size: 2.5rem } h2 { font-size: 2rem }
    p, ol, ul, dl, pre { margin: 0 0 1rem } dt { font-weight: 700 } dd { margin: 0 0 .5rem } figure { margin: 0 0 1rem }
    small { font-size: 80% } strong { font-weight: bolder } label { display: inline-block; margin-bottom: .5rem }
    table { border-collapse: collapse; caption-side: bottom } th { text-align: inherit }
    pre { color: #212529; direction: ltr; font: .875em monospace; overflow: auto; unicode-bidi: bidi-override }
    button, input, select, textarea { margin: 0; font-family: inherit; font-size: inherit; line-height: inherit }
    summary { display: list-item } output { display: inline-block } [hidden] { display: none !important }
    .btn { padding: .375rem .75rem; background: #6c757d }
"""
"""What Bootstrap, which CDCS's pages take from a host that cannot be reached here, gives to bare elements."""
LOOKS = """selector => Array.from(document.querySelectorAll(selector), element => {
    const style = getComputedStyle(element);
    const names = ["display", "color", "backgroundColor", "fontFamily", "fontSize", "fontWeight", "lineHeight",
        "textAlign", "textDecorationLine", "unicodeBidi", "marginTop", "marginRight", "marginBottom", "marginLeft",
        "paddingTop", "paddingRight", "paddingBottom", "paddingLeft", "borderTopWidth", "borderBottomWidth"];
    return [element.outerHTML.slice(0, 80), ...names.map(name => `${name}: ${style[name]}`)].join("; ");
})"""


@pytest.fixture(scope="module")
def server() -> Iterator[CdcsProcess]:
    try:
        process = CdcsProcess()
    except CdcsNotInstalledError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"CDCS cannot run here: {error}")
    with process as running:
        yield running


@pytest.fixture
def cdcs(server: CdcsProcess) -> CdcsProcess:
    """A CDCS without records and stylesheets."""
    server.clear()
    without_stylesheets(server)
    return server


def without_stylesheets(cdcs: CdcsProcess) -> None:
    sheets, bindings = state(cdcs)
    for sheet in sheets:
        cdcs.ask("DELETE", f"rest/xslt/{sheet['id']}/")
    for binding in bindings:
        cdcs.ask("DELETE", f"rest/template/xsl_rendering/{binding['id']}/")


def destination(cdcs: CdcsProcess, template: str, before: Callable[[], object] = lambda: None) -> Cdcs:
    return Cdcs(cdcs.url, SecretStr(cdcs.token), Choices(template=template), before=before)


def install(ours: Cdcs, places: Places = PLACES, *, dry_run: bool = False) -> str:
    """What the set-up tells."""
    return "\n".join([ours.install_template(dry_run=dry_run), *Stylesheets(ours, places, dry_run=dry_run).install()])


def state(cdcs: CdcsProcess) -> tuple[list[Any], list[Any]]:
    """Every stylesheet and every binding."""
    return cdcs.ask("GET", "rest/xslt/"), cdcs.ask("GET", "rest/template/xsl_rendering/")


def chosen(cdcs: CdcsProcess) -> list[tuple[str, str, set[str]]]:
    """Stylesheets of each version of a template that has any: in lists, first on a page, by choice on a page."""
    sheets, bindings = state(cdcs)
    names = {sheet["id"]: sheet["name"] for sheet in sheets}
    return [
        (names[b["list_xslt"]], names[b["default_detail_xslt"]], {names[n] for n in b["list_detail_xslt"]})
        for b in bindings
    ]


@pytest.fixture
def title() -> str:
    """Title of a template that is not there yet."""
    return f"template {os.urandom(4).hex()}"


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    """Settings are read in this test, and again in the next."""
    settings.cache_clear()
    yield
    settings.cache_clear()


class TestSetup:
    def test_a_dry_run_changes_nothing_and_a_second_run_neither(self, cdcs: CdcsProcess, title: str) -> None:
        ours = destination(cdcs, title)
        told = install(ours, dry_run=True)
        assert (told.count("would be made"), told.count("would have"), state(cdcs)) == (3, 1, ([], []))

        told = install(ours)
        assert (told.count("was made"), told.count("has these stylesheets now"), chosen(cdcs)) == (3, 1, [OURS])

        before = state(cdcs)
        told = install(ours)
        assert (told.count("already"), told.count("up to date"), state(cdcs)) == (2, 2, before)

    def test_other_addresses_renew_the_stylesheets_where_they_are(self, cdcs: CdcsProcess, title: str) -> None:
        ours = destination(cdcs, title)
        install(ours)
        sheets, bindings = state(cdcs)
        assert any("https://data.example.org/datasets" in sheet["content"] for sheet in sheets)

        told = install(ours, Places(), dry_run=True)
        assert "show no previews: NX_DATASETS_URL" in told
        assert (told.count("would be renewed"), state(cdcs)) == (2, (sheets, bindings))
        install(ours, Places())

        renewed, still = state(cdcs)
        assert still == bindings
        assert not any("data.example.org" in sheet["content"] for sheet in renewed)

    def test_what_others_have_chosen_stays_and_goes_on_in_a_new_version(self, cdcs: CdcsProcess, title: str) -> None:
        body = {"filename": "a.xsd", "content": OTHER_SCHEMA, "title": title}
        earlier = cdcs.ask("POST", "rest/template/global/", json=body)["id"]
        body = {"name": "other", "filename": "a.xsl", "content": OTHER_STYLESHEET}
        other = cdcs.ask("POST", "rest/xslt/", json=body)["id"]
        choice = {"template": earlier, "list_xslt": other, "default_detail_xslt": other, "list_detail_xslt": [other]}
        cdcs.ask("POST", "rest/template/xsl_rendering/", json=choice)
        ours = destination(cdcs, title)

        told = install(ours)

        assert "has a new version" in told
        assert "Pages of records begin with 'other'" in told
        assert "Lists of records keep 'other'" in told
        assert chosen(cdcs) == [("other", "other", {"other", DETAIL})] * 2
        before = state(cdcs)
        install(ours)
        assert state(cdcs) == before
        assert [sheet["content"] for sheet in before[0] if sheet["name"] == "other"] == [OTHER_STYLESHEET]

    def test_wherever_it_is_cut_off_the_next_run_completes_it(self, cdcs: CdcsProcess, title: str) -> None:
        for calls in count():
            left = iter(range(calls))

            def cut(left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise DestinationUnavailableError("cut off")

            without_stylesheets(cdcs)
            try:
                install(destination(cdcs, title, cut))
            except DestinationUnavailableError:
                install(destination(cdcs, title))
                assert chosen(cdcs) == [OURS]
                assert len(state(cdcs)[0]) == 2
            else:
                break
        assert calls > 6

    @pytest.mark.usefixtures("fresh_settings")
    def test_the_command_installs_what_the_settings_say(
        self, cdcs: CdcsProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "raw").mkdir()
        monkeypatch.chdir(tmp_path)
        given = {
            "NX_INSTRUMENT_DATA_PATH": str(tmp_path / "raw"),
            "NX_DATA_PATH": str(tmp_path / "data"),
            "NX_DATASETS_URL": "https://data.example.org/datasets/",
            "NX_RAW_URL": "file:///mnt/raw",
        }
        for name, value in (given | cdcs.variables(cdcs.url)).items():
            monkeypatch.setenv(name, value)

        assert cli.main(["cdcs-template", "--dry-run"]) == 0
        assert chosen(cdcs) == []
        assert cli.main(["cdcs-template"]) == 0
        (content,) = [sheet["content"] for sheet in state(cdcs)[0] if sheet["name"] == DETAIL]
        assert "https://data.example.org/datasets<" in content
        assert "file:///" not in content
        assert "has these stylesheets now" in capsys.readouterr().out

        monkeypatch.setenv("NX_CDCS_TOKEN", cdcs.powerless_token)
        settings.cache_clear()
        assert cli.main(["cdcs-template"]) == 1
        assert "staff account in NX_CDCS_TOKEN" in capsys.readouterr().err


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def datasets(tmp_path: Path) -> Iterator[str]:
    """Address of the folder of previews and sidecars."""
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def address(cdcs: CdcsProcess, datasets: str, tmp_path: Path) -> str:
    """Address of the page of a record whose texts are hostile."""
    ours = Cdcs(cdcs.url, SecretStr(cdcs.token), Choices())
    install(ours, Places(datasets=datasets))
    made = publication(
        tmp_path,
        title=f"Grains {HOSTILE}",
        names=[*(f"grain {n}.tif" for n in range(5)), "a <b> & 'c'.tif"],
        motivation=HOSTILE,
        samples=(Sample(id="s", name=HOSTILE, description=HOSTILE),),
        refused=(InventoryEntry("/Quanta/bad.dm3", "refused", HOSTILE),),
    )
    return ours.create(made).url


def alone(route: Route) -> None:
    """Nobody answers but this machine."""
    if "//127.0.0.1:" in route.request.url:
        route.continue_()
    else:
        route.abort()


@pytest.fixture
def tab(opened: Opened) -> Page:  # noqa: F811
    """A tab in which CDCS's Bootstrap and jQuery cannot be reached."""
    page, _ = opened("about:blank")
    page.route("**/*", alone)
    return page


@pytest.fixture
def page(tab: Page, address: str) -> Page:
    """The record as anybody sees it."""
    tab.goto(address)
    return tab


class TestPage:
    def test_record_is_shown_with_gallery_previews_and_dialogs(self, page: Page, datasets: str) -> None:
        shown, position = page.locator(".nx-large img"), page.locator(".nx-steps output")
        expect(page.locator("#xslt-representation > article.nx-record h1")).to_contain_text("Grains <script>")
        expect(position).to_have_text("1 of 6")
        page.keyboard.press("ArrowRight")
        expect(position).to_have_text("2 of 6")
        assert shown.get_attribute("src") == f"{datasets}/Quanta/grain%201.tif.thumb.png"
        page.wait_for_function("document.querySelector('.nx-large img').naturalWidth === 1")

        row = page.locator(".nx-datasets tbody tr").filter(has_text="grain 4.tif")
        beside = page.locator(".nx-activity").filter(has=row).locator(".nx-beside")
        row.hover()
        expect(beside).to_contain_text("grain 4.tif")
        page.locator(".nx-datasets tbody tr").filter(has_text="'c'.tif").locator(".nx-sidecar").focus()
        expect(beside).to_contain_text("a <b> & 'c'.tif")

        row.get_by_text("Metadata").click()
        dialog = page.get_by_role("dialog", name="grain 4.tif")
        dialog.get_by_role("searchbox").fill("voltage kv")
        expect(dialog.locator("tbody tr:not(.nx-group):visible")).to_have_count(1)
        dialog.get_by_role("button", name="Close").click()
        expect(page.locator("article dialog")).to_have_count(0)

    def test_record_can_be_fetched_as_cdcs_holds_it(self, page: Page, cdcs: CdcsProcess) -> None:
        link = page.get_by_role("link", name="Record (XML)").evaluate("link => link.href")
        assert requests.get(link, timeout=10).content == cdcs.copies(KEY)[0]

    def test_hostile_texts_run_no_script(self, page: Page) -> None:
        page.locator(".nx-datasets summary").last.click()
        expect(page.locator("article dialog")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.ran") is None
        assert page.locator("article [onerror]").count() == 0
        assert page.locator("article script").count() == 1
        expect(page.locator("article h1")).to_have_text(f"Grains {HOSTILE}")

    def test_styles_of_the_site_and_of_the_record_leave_each_other_alone(self, page: Page) -> None:
        page.locator(".nx-datasets summary").last.click()
        alone = page.evaluate(LOOKS, "article.nx-record, article.nx-record *:not(style, script)")
        page.add_style_tag(content=BOOTSTRAP)
        assert page.evaluate(LOOKS, "article.nx-record, article.nx-record *:not(style, script)") == alone

        around = "html, body, body :not(article, article *, script)"
        with_ours = page.evaluate(LOOKS, around)
        page.evaluate("document.querySelector('article style').remove()")
        assert len(with_ours) > 20
        assert page.evaluate(LOOKS, around) == with_ours

    def test_record_whose_identifier_cdcs_has_set_links_to_no_file_of_that_name(self, tmp_path: Path) -> None:
        places = Places(records="https://data.example.org/records", crates="https://data.example.org/crates")
        xml, identifier = publication(tmp_path).xml, b"http://cdcs.example.org/pid/rest/local/cdcs/ABC"
        assert b"https://data.example.org/records/2026/" in record_page(xml, places)

        shown = record_page(xml.replace(f'pid="{KEY}"'.encode(), b'pid="%s"' % identifier), places)

        assert b"data.example.org/" not in shown
        assert b'<a href="%s">' % identifier in shown


class TestList:
    def test_results_of_a_search_tell_title_people_and_counts(
        self, address: str, cdcs: CdcsProcess, tab: Page, datasets: str
    ) -> None:
        anybody_may_search(cdcs)
        tab.route("https://code.jquery.com/*", lambda route: route.fulfill(path=JQUERY))
        tab.route(re.compile("/explore/keyword/$"), without_integrity)
        tab.goto(f"{cdcs.url}explore/keyword/")

        result = tab.locator(".nx-result")
        expect(result).to_be_visible()
        expect(result).to_contain_text("Quanta SEM – Größe µm · Ada Adeyemi")
        expect(result).to_contain_text("6 datasets (Image 6)")
        expect(result.locator("img")).to_have_attribute("src", f"{datasets}/Quanta/grain%200.tif.thumb.png")
        assert tab.evaluate("window.ran") is None
        tab.locator("span.expand").click()
        expect(result).to_be_hidden()


def anybody_may_search(cdcs: CdcsProcess) -> None:
    with sqlite3.connect(cdcs.site / "cdcs.sqlite3", timeout=30) as database:
        database.execute(
            "INSERT OR IGNORE INTO auth_group_permissions (group_id, permission_id) SELECT g.id, p.id "
            "FROM auth_group g, auth_permission p WHERE g.name = 'anonymous' AND p.codename = 'access_explore_keyword'"
        )


def without_integrity(route: Route) -> None:
    """Let the page take another jQuery than the one it names."""
    answer = route.fetch()
    route.fulfill(response=answer, body=re.sub('integrity="[^"]*"', "", answer.text()))
