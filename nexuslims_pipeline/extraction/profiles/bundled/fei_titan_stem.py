"""FEI Titan for STEM: shared accounts, and diffraction through the energy filter."""

from nexuslims_pipeline.extraction.profiles.model import Profile, Rule

SHARED = "The value stays from the last user who entered it."
PROFILE = Profile(
    name="FEI-Titan-STEM",
    instruments=("FEI-Titan-STEM",),
    rules=(
        Rule.model_validate(
            {
                "when": {"reader": "digital_micrograph"},
                "warnings": {"detector_type": SHARED, "operator": SHARED, "specimen": SHARED},
            }
        ),
        Rule.model_validate(
            {
                "when": {
                    "reader": "digital_micrograph",
                    "dataset_type": ["Image", "Diffraction"],
                    "values": {"Imaging Mode": "EFTEM DIFFRACTION", "illumination_mode": "^(?!.*STEM)"},
                },
                "dataset_type": "Diffraction",
                "data_type": "TEM_EFTEM_Diffraction",
            }
        ),
    ),
)
