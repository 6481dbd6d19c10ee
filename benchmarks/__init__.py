"""Timing of the pipeline and of NexusLIMS on one input and one machine."""
