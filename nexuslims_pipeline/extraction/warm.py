"""Imported once by the server that the sandbox's children are forked from: what most files need.

HyperSpy itself is left to the child that meets a file for it: it takes longer to import than most files to read.
"""

import lxml.etree
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.PngImagePlugin
import tifffile

from nexuslims_pipeline.extraction import reading, registry
from nexuslims_pipeline.extraction.plugins import preview_plugins
from nexuslims_pipeline.extraction.profiles.loading import load_profiles
from nexuslims_pipeline.metadata.models import MODELS
from nexuslims_pipeline.metadata.units import unit_registry
from nexuslims_pipeline.previews import draw

__all__ = ["PIL", "draw", "lxml", "np", "reading", "registry", "tifffile"]

registry.extractors()
preview_plugins()
load_profiles(None)
unit_registry()
for model in MODELS.values():
    model.model_rebuild()
