"""JEOL JEM: its files do not tell diffraction from images, but its users do in the files' names."""

from nexuslims_pipeline.extraction.profiles.model import Profile, Rule

GUESSED = "It is guessed from the file's name: the instrument does not write its mode."
PROFILE = Profile(
    name="JEOL-JEM-TEM",
    instruments=("JEOL-JEM-TEM",),
    rules=(
        Rule.model_validate({"warnings": {"DatasetType": GUESSED, "Data Type": GUESSED}}),
        Rule.model_validate(
            {
                "when": {
                    "dataset_type": "Image",
                    "file_name": r"(?i)(?<![^\W_])(?:diff|saed|dp)(?![^\W_])",
                },
                "dataset_type": "Diffraction",
                "data_type": "TEM_Diffraction",
            }
        ),
    ),
)
