"""From electron-microscopy sessions to validated Nexus Experiment records."""

__version__ = "0.1.0"
