"""Bruker ``.spx``: one spectrum of an EDS detector on a microscope, or of a micro-XRF spectrometer.

XML as described in `extraction.bruker`, with the class ``TRTSpectrum`` at its root; the counts are numbers with commas
between them in ``<Channels>``.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.bruker import (
    add_spectrum,
    child,
    column_of,
    counts,
    energy_axis,
    is_xrf,
    moment_of,
    symbols,
    text_at,
    tree,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import number, parse_xml
from nexuslims_pipeline.signals import Pixels, Signal, Source

FILE_LIMIT: Final = 8 << 20
"""Bytes of the largest file that is read; a spectrum of 4096 channels has 0.1 MB."""
ROOT = re.compile(rb"<TRTSpectrum\s*>")


class BrukerSpx(Extractor):
    """Spectra of Bruker Esprit."""

    name: ClassVar[str] = "bruker_spx"
    format_name: ClassVar[str] = "Bruker spectrum"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".spx"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it is XML whose root is a spectrum."""
        return ROOT.search(head[:1024]) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the one spectrum.

        Raises
        ------
        ExtractionError
            If the file is too large, no XML, or holds no counts.
        """
        spectrum = child(parse_xml(_read(source.path)), "TRTSpectrum")
        if spectrum is None:
            msg = "it is damaged: there is no spectrum in it"
            raise ExtractionError(msg)
        facts = Facts()
        add_spectrum(facts, spectrum)
        _add_specimen(facts, spectrum)
        _add_composition(facts, child(spectrum, "TRTResult"))
        axis = energy_axis(spectrum, facts)
        facts.add_axes([axis])
        signal = Signal(
            "Spectrum",
            "XRF" if is_xrf(spectrum) else f"{column_of(facts).replace('STEM', 'TEM')}_EDS",
            shape=(axis.size,),
            name=spectrum.get("Name", ""),
            acquired=moment_of(child(spectrum, "TRTSpectrumHeader"), facts),
            native=bounded(tree(spectrum)),
            pixels=Pixels(counts(spectrum), (axis,)),
        )
        return [facts.give_to(signal)]


def _read(path: Path) -> bytes:
    if path.stat().st_size > FILE_LIMIT:
        msg = f"it is larger than any spectrum ({FILE_LIMIT >> 20} MB)"
        raise ExtractionError(msg)
    return path.read_bytes()


def _add_specimen(facts: Facts, spectrum: Any) -> None:
    facts.add("Description", text_at(spectrum, "TRTHeaderedClass/TRTBase/Description"))
    facts.add("Generation", text_at(spectrum, "GenerationType"))
    specimen = spectrum.find("ChildClassInstances/ClassInstance[@Type='TSampleInformation']")
    if specimen is not None:
        facts.add("specimen", specimen.get("Name", ""))
        facts.add("Specimen Description", text_at(specimen, "TRTBase/Description"))
    chosen = spectrum.findall("ClassInstance[@Type='TRTPSEElementList']/ChildClassInstances/ClassInstance/Element")
    facts.add("elements", symbols(each.text or "" for each in chosen))


def _add_composition(facts: Facts, result: Any) -> None:
    """Mass fractions of Esprit's quantification, where it was made."""
    for each in result.findall("Result") if result is not None else ():
        element, fraction = symbols([text_at(each, "Atom")]), text_at(each, "MassPercent")
        if element and fraction:
            try:
                facts.add(element[0], float(f"{number(fraction) * 100:.6g}"), "percent", "Mass Fractions")
            except ValueError as fault:
                facts.warnings[f"Mass Fractions: {element[0]}"] = str(fault)


EXTRACTOR = BrukerSpx()
