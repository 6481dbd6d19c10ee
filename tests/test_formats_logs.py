"""Logs of in-situ holders: real files, and small ones that the tests write."""

import os
from datetime import datetime
from pathlib import Path

import pytest

from nexuslims_pipeline.extraction.formats import dens, impulse, protochips
from nexuslims_pipeline.extraction.layouts import holder_log
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.standalone import source_of
from nexuslims_pipeline.signals import Signal

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of real files")

PROTOCHIPS = """\
Time, Notes, Channel A Temperature, Channel B Current, Holder Power
0, Date (yyyy.mm.dd) = 2024.05.06, 20, 0.5, 1
0, Time (hh:mm:ss.ms) = 07:08:09.250, 20, 0.5, 1
0, Time units = Seconds, 20, 0.5, 1
0, Temperature units = Degrees C, 20, 0.5, 1
0, Current units = Milliamps, 20, 0.5, 1
0, User agreeing to terms = A. Nyone, 20, 0.5, 1
1, , 20, 0.5, 1
2, "beam on, then off", 20, 0.75, 1
4, , 20, 0.25, 1
"""
DENS = """
16/04/'15 13:53\tDigiheater 3.1
R0 = 282.7\ta =  0.0000000\tb = 0.225\tc = 278.222
Tsample = 330 [ms]
sample\ttime\tTset[C]\tTmeas[C]\tRheat[ohm]\tVheat[V]\tIheat[mA]\tPheat [mW]\tc
1\t23:59:59.50\t23.0\t15.091\t281.617\t0.075535\t0.267806\t0.020229\t278.222\tnorm
2\t00:00:00.50\t23.0\t16.828\t282.008\t0.043044\t0.152398\t0.006560\t278.222\tnorm
"""
IMPULSE = """\
Experiment time,TimeStamp,Temperature Measured (degC),MixValve,% Gas1 Measured,Pin Measured
0.0,13:40:19.100,21.0,-1;0;0,50,998.5
0.5,13:40:19.600,300.5,-1;0;0,50,998.0
1.0,13:40:20.100,650.0,1;0;0,50,1001.25
"""
METADATA = """\
Experiment date,06-08-2021
Experiment time,13:40:19
Sample,Gold
Gas1,H2
Max temperature,1100
Live notes,13:46:46: first
13:46:52: second, with a comma
"""


def read(extractor: Extractor, path: Path, text: str | None = None, *companions: Path) -> Signal:
    """The one dataset of a log, written first where there is `text`."""
    if text is not None:
        path.write_bytes(text.encode())
    source = source_of(path)
    if companions:
        source = type(source)(source.path, source.modified, source.size, companions)
    assert extractor.accepts(source, path.read_bytes()[:4096])
    [signal] = extractor.extract(source)
    assert (signal.dataset_type, signal.data_type) == ("Misc", "Environment_Log")
    return signal


def ends(signal: Signal, name: str, unit: str) -> list[float]:
    """First, last, least and greatest value of a column."""
    return [signal.extensions[name][key].m_as(unit) for key in ("First", "Last", "Minimum", "Maximum")]


@needs_corpus
def test_protochips_gas_cell() -> None:
    """Ranges with the units of the header, its user, and its start on the instrument's clock."""
    signal = read(protochips.EXTRACTOR, CORPUS / "csv_protochips" / "protochips_gas_cell.csv")
    assert signal.acquired == datetime(2014, 12, 15, 19, 7, 4, 165000)
    assert signal.fields["operator"] == "eric"
    assert "temperature" not in signal.fields, "the holder was heated to 35 °C"
    assert ends(signal, "Holder Pressure", "torr") == [733.154293872, 0, 0, 738.5253876]
    assert ends(signal, "Holder Temperature", "degC")[2:] == [25, pytest.approx(35.0002465)]
    assert signal.extensions["Duration"].m_as("s") == 856.052
    assert signal.extensions["Calibration File"] == "GC21105_AD4.csv"
    assert signal.warnings == {}
    assert signal.pixels is not None
    assert signal.pixels.array.max() > 34, "the temperature is what is drawn"


@needs_corpus
def test_protochips_without_user_and_without_heating() -> None:
    """A temperature that stays the same is that of the specimen."""
    signal = read(protochips.EXTRACTOR, CORPUS / "csv_protochips" / "protochips_gas_cell_no_user.csv")
    assert "operator" not in signal.fields
    assert signal.fields["temperature"].m_as("degC") == pytest.approx(25)


def test_protochips_of_other_units(tmp_path: Path) -> None:
    """Seconds and milliamperes; a note with a comma; a quantity whose unit the header does not tell."""
    signal = read(protochips.EXTRACTOR, tmp_path / "log.csv", PROTOCHIPS)
    assert signal.extensions["Duration"].m_as("s") == 4
    assert ends(signal, "Channel B Current", "mA") == [0.5, 0.25, 0.25, 0.75]
    assert signal.extensions["Holder Power"] == 1
    assert signal.extensions["Notes"] == ['2.0 s: "beam on, then off"']
    assert signal.warnings == {}
    assert signal.pixels is not None
    assert signal.pixels.array.tolist()[-1] == 0.25, "the only column that varies"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("Degrees C", "Degrees Z"), "Channel A Temperature"),
        (("Seconds", "Fortnights"), "Duration"),
        (("2024.05.06", "2024.15.06"), "Creation Time"),
        (("4, , 20, 0.25, 1\n", "4, , 20, 0."), "Log Entries"),
        (("4, , 20, 0.25, 1\n", "4, , 20, 0.25, 1"), "Log"),
    ],
)
def test_protochips_with_doubts(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    """Unknown units, impossible dates and ends that are cut off are told, and cost only themselves."""
    signal = read(protochips.EXTRACTOR, tmp_path / "log.csv", PROTOCHIPS.replace(*change))
    assert field in signal.warnings
    assert signal.fields["operator"] == "A. Nyone"


def test_tables_of_others_are_refused(tmp_path: Path) -> None:
    """A table with the same two first columns is no log of a holder."""
    for text in ("Time, Notes, Temperature\n0, start, 20\n", "This,is,a,csv,file", "TimeStamp,Value\n1,2\n", ""):
        path = tmp_path / "table.csv"
        path.write_text(text)
        for extractor in (protochips.EXTRACTOR, impulse.EXTRACTOR):
            assert not extractor.accepts(source_of(path), text.encode())


def test_large_logs_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beyond the limit is left out and told; a line without end is no memory either."""
    monkeypatch.setattr(holder_log, "READ_LIMIT", 60)
    signal = read(protochips.EXTRACTOR, tmp_path / "log.csv", PROTOCHIPS + "9," * 100_000)
    assert signal.extensions["Log Entries"] == 1
    assert "Only its first" in signal.warnings["Log"]


@needs_corpus
def test_digiheater() -> None:
    """Set and measured temperature, heater, and the calibration of its resistance."""
    signal = read(dens.EXTRACTOR, CORPUS / "dens" / "file1.dens")
    assert signal.acquired == datetime(2015, 4, 16, 13, 53)
    assert signal.fields["software"] == "Digiheater 3.1"
    assert ends(signal, "Measured Temperature", "degC") == [15.091, 49.981, 13.232, 50.117]
    assert ends(signal, "Heater Power", "mW")[3] == 0.268943
    assert signal.extensions["Heater Calibration"]["R0"].m_as("ohm") == 282.7
    assert signal.extensions["Sampling Interval"].m_as("ms") == 330
    assert signal.extensions["Duration"].m_as("s") == pytest.approx(1.98)


def test_digiheater_over_midnight(tmp_path: Path) -> None:
    """Times of day begin anew; the day comes before the month."""
    signal = read(dens.EXTRACTOR, tmp_path / "a.dens", DENS.replace("16/04", "05/06"))
    assert signal.extensions["Duration"].m_as("s") == 1
    assert signal.acquired == datetime(2015, 6, 5, 13, 53)


@pytest.mark.parametrize("change", [("Tmeas[C]", "Tmeas[F]"), ("\tTset[C]", "")])
def test_digiheater_of_other_columns(tmp_path: Path, change: tuple[str, str]) -> None:
    """Entries that do not fit the names of the columns are not guessed at."""
    path = tmp_path / "a.dens"
    path.write_text(DENS.replace(*change))
    with pytest.raises(ExtractionError, match="columns"):
        dens.EXTRACTOR.extract(source_of(path))


def test_impulse_with_its_metadata(tmp_path: Path) -> None:
    """Units in names, states of valves, and the companion with sample, gases and notes."""
    companion = tmp_path / "Stub_Metadata.log"
    companion.write_text(METADATA)
    signal = read(impulse.EXTRACTOR, tmp_path / "Stub_Synchronized data.csv", IMPULSE, companion)
    assert signal.acquired == datetime(2021, 8, 6, 13, 40, 19)
    assert signal.fields["specimen"] == "Gold"
    assert ends(signal, "Temperature Measured", "degC") == [21, 650, 21, 650]
    assert signal.extensions["Pin Measured"]["Maximum"] == 1001.25, "the file does not tell its unit"
    assert signal.extensions["Gas1 Measured"].m_as("percent") == 50
    assert signal.extensions["MixValve"] == {"First State": "-1;0;0", "Last State": "1;0;0"}
    assert signal.extensions["Gases"] == {"Gas1": "H2"}
    assert signal.extensions["Notes"] == ["13:46:46: first", "13:46:52: second, with a comma"]
    assert signal.extensions["Maximum Temperature"].m_as("degC") == 1100


def test_impulse_alone(tmp_path: Path) -> None:
    """Without its companion, and with times of day only, nobody knows the day."""
    signal = read(impulse.EXTRACTOR, tmp_path / "renamed.csv", IMPULSE)
    assert signal.acquired is None
    dated = IMPULSE.replace("13:40:19.100", "2021-08-06 13:40:19.100")
    assert read(impulse.EXTRACTOR, tmp_path / "dated.csv", dated).acquired == datetime(2021, 8, 6, 13, 40, 19, 100000)
