"""One module per vendor format, each with one `Extractor`."""
