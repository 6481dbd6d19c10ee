"""Acquisition activities: files of a session that were taken in one go."""
