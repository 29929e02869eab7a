"""What do parent and candidate see in the cases of every domain? Features in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perdure.errors import EvaluationError
from perdure.evaluation.features import features, principal_components, umap_coordinates
from perdure.evidence.report.content import Cloud

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.types import Split


def clouds_of(
    domains: Sequence[FolderDomain], split: Split | None, parent: Release | None, after: Release | None, device: str
) -> tuple[Cloud, ...]:
    """What parent and candidate see in the val cases of every domain, or the scored ones where there are none."""
    if after is None or not domains:
        raise EvaluationError("it takes the data: give their folder with --data.")
    has_val = all(any(row.split == "val" for row in domain.rows.values()) for domain in domains)
    chosen: Split = "val" if has_val else split or "test"
    clouds = []
    for release in (parent, after):
        if release is None:
            continue
        seen = features(release, domains, chosen, device=device)
        names = [structure.name for structure in release.contract.structures]
        common: dict[str, Any] = {
            "release": release.name,
            "domains": seen.domains,
            "classes": tuple(names[k] for k in seen.classes),
            "names": tuple(names),
        }
        points, shares = principal_components(seen.values)
        clouds.append(Cloud(kind="PCA", shares=tuple(shares.tolist()), points=_pairs(points), **common))
        try:
            clouds.append(Cloud(kind="UMAP", shares=(), points=_pairs(umap_coordinates(seen.values)), **common))
        except EvaluationError:
            continue  # not installed
    return tuple(clouds)


def _pairs(points: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in points)
