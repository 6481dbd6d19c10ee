"""What is demanded of datasets and records."""

from collections.abc import Mapping

METADATA_CHECKS = {
    "metadata_plausible": "No value contradicts physics, the instrument's range, or another value of its file.",
    "times_inside_session": "Every acquisition time that a file tells lies within the session, but for the clocks.",
}
RECORD_CHECKS = {
    "valid_against_schema": "The record satisfies the Nexus Experiment schema.",
    "every_file_accounted_for": "Every file of the inventory stands in the record or in its list of refused files.",
}
CHECKS: Mapping[str, Mapping[str, str]] = {"file_metadata": METADATA_CHECKS, "record": RECORD_CHECKS}
"""Checks of each stage that has some, with what they demand."""
