"""Metadata and pixels of vendor files: formats, choice of the reader, sandbox and cache."""
