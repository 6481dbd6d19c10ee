"""A small facility of our own making, with believable files, to try the pipeline on."""
