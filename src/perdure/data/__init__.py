"""How a scan becomes a tensor, and which patients are in which split."""

from __future__ import annotations

from perdure.data.cache import Cache
from perdure.data.cases import PreparedCase
from perdure.data.dataset import Dataset
from perdure.data.domain import FolderDomain, JointDomain, join
from perdure.data.geometry import Grid, ImageGrid, VolumeGrid
from perdure.data.preparation import Prepared, prepare_image
from perdure.data.splitting import split_subjects

__all__ = [
    "Cache",
    "Dataset",
    "FolderDomain",
    "Grid",
    "ImageGrid",
    "JointDomain",
    "Prepared",
    "PreparedCase",
    "VolumeGrid",
    "join",
    "prepare_image",
    "split_subjects",
]
