"""What do other systems call a structure?

Names that datasets commonly use, and the concepts that they mean, most of SNOMED CT (DICOM CIDs 7140, 7150 and 7151).
Only names whose meaning is certain stand here. Any other gets a code of ours, of scheme 99PERDURE, whose value is the
name itself: other systems show it and do not take it for something that they know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PRIVATE_SCHEME = "99PERDURE"
MANUFACTURER = "Perdure"
"""What a SEG of ours says of who made it."""

_CONCEPTS = {
    # brain, as FreeSurfer, SynthSeg and the tissue maps of MNI152 name its parts
    "brain": "Brain",
    "cerebral_white_matter": "CerebralWhiteMatter",
    "cerebral_cortex": "CerebralCortex",
    "lateral_ventricle": "LateralVentricle",
    "inferior_lateral_ventricle": "InferiorHornOfLateralVentricle",
    "inf_lat_vent": "InferiorHornOfLateralVentricle",
    "third_ventricle": "ThirdVentricle",
    "3rd_ventricle": "ThirdVentricle",
    "ventricle_3": "ThirdVentricle",
    "fourth_ventricle": "FourthVentricle",
    "4th_ventricle": "FourthVentricle",
    "ventricle_4": "FourthVentricle",
    "cerebellum": "Cerebellum",
    "cerebellum_white_matter": "CerebellarWhiteMatter",
    "cerebellar_white_matter": "CerebellarWhiteMatter",
    "cerebellum_cortex": "CerebellarCortex",
    "cerebellar_cortex": "CerebellarCortex",
    "thalamus": "Thalamus",
    "thalamus_proper": "Thalamus",
    "caudate": "CaudateNucleus",
    "caudate_nucleus": "CaudateNucleus",
    "putamen": "Putamen",
    "pallidum": "GlobusPallidus",
    "globus_pallidus": "GlobusPallidus",
    "brain_stem": "BrainStem",
    "brainstem": "BrainStem",
    "hippocampus": "Hippocampus",
    "amygdala": "Amygdala",
    "accumbens": "NucleusAccumbens",
    "accumbens_area": "NucleusAccumbens",
    "ventral_dc": "DCM.VentralDiencephalon",
    "ventral_diencephalon": "DCM.VentralDiencephalon",
    "corpus_callosum": "CorpusCallosum",
    "csf": "CerebrospinalFluid",
    "cerebrospinal_fluid": "CerebrospinalFluid",
    "grey_matter": "GrayMatter",
    "gray_matter": "GrayMatter",
    "white_matter": "WhiteMatter",
    # trunk, as the Medical Segmentation Decathlon and TotalSegmentator name it
    "aorta": "Aorta",
    "colon": "Colon",
    "esophagus": "Esophagus",
    "gallbladder": "Gallbladder",
    "heart": "Heart",
    "kidney": "Kidney",
    "liver": "Liver",
    "lung": "Lung",
    "pancreas": "Pancreas",
    "prostate": "Prostate",
    "spinal_cord": "SpinalCord",
    "spleen": "Spleen",
    "stomach": "Stomach",
    "trachea": "Trachea",
}  # fmt: skip
_NO_ANATOMY = {"CerebrospinalFluid": "BodySubstance", "GrayMatter": "Tissue", "WhiteMatter": "Tissue"}
_SIDE = re.compile(r"(?P<side>left|right)_(?P<rest>.+)")


@dataclass(frozen=True)
class CodedName:
    """A structure in the words of DICOM: names in `pydicom.sr.codedict.codes`, of scheme SCT if none is said.

    Args:
        category: what kind of thing it is.
        concept: what it is; None if no name in the table says so.
        side: `Left` or `Right`, where a concept is known and the name says on which side it is.
    """

    category: str
    concept: str | None
    side: str | None


def coded_name(structure: str) -> CodedName:
    """What a structure's name means, whatever its case, with spaces or hyphens for `_`."""
    name = re.sub(r"[\s_-]+", "_", structure.strip().lower())
    sided = _SIDE.fullmatch(name)
    concept = _CONCEPTS.get(name) or (_CONCEPTS.get(sided["rest"]) if sided else None)
    if concept is None:
        # no more is known than that it is a place
        return CodedName("SpatialAndRelationalConcept", None, None)
    side = sided["side"].title() if sided and name not in _CONCEPTS else None
    return CodedName(_NO_ANATOMY.get(concept, "AnatomicalStructure"), concept, side)
