"""Profiles: what a facility knows of an instrument and its files do not say."""
