"""What is demanded of a record."""

RECORD_CHECKS = {
    "valid_against_schema": "The record satisfies the Nexus Experiment schema.",
    "every_file_accounted_for": "Every file of the inventory stands in the record or in its list of refused files.",
}
