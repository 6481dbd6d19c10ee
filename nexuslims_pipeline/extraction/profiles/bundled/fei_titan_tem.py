"""FEI Titan for TEM: diffraction that only the mode of the column tells.

The mode itself is read with the file, see `extraction.tecnai`.
"""

from nexuslims_pipeline.extraction.profiles.model import Profile, Rule

PROFILE = Profile(
    name="FEI-Titan-TEM",
    instruments=("FEI-Titan-TEM",),
    rules=(
        Rule.model_validate(
            {
                "when": {
                    "reader": "digital_micrograph",
                    "dataset_type": "Image",
                    "values": {
                        "Tecnai Mode": "STEM nP SA Zoom Diffraction",
                        "acquisition_device": "^(?!.*DigiScan).",
                        "native/Image/Name": "^(?!.*FFT)",
                    },
                },
                "dataset_type": "Diffraction",
                "data_type": "STEM_Diffraction",
            }
        ),
        Rule.model_validate(
            {
                "when": {
                    "reader": "digital_micrograph",
                    "dataset_type": "Image",
                    "values": {
                        "Operation Mode": "DIFFRACTION",
                        "illumination_mode": "^(?!.*STEM)",
                        "native/Image/Name": "^(?!.*FFT)",
                    },
                },
                "dataset_type": "Diffraction",
                "data_type": "TEM_Diffraction",
            }
        ),
    ),
)
