"""Nexus Experiment records: XML from a session and its activities, checked against the schema."""
