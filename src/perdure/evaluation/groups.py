"""To which subgroup does each subject belong? Read from further columns of the manifest, kept beside the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from perdure.errors import DataError

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.evaluation.scores import Scores
    from perdure.types import Split


def with_groups(scores: Scores, domains: Sequence[FolderDomain], columns: Sequence[str]) -> Scores:
    """The same scores, with what stands in columns of the manifest for each subject that was scored.

    Args:
        scores: of these domains.
        domains: that were scored.
        columns: of the manifest, beyond those that every manifest has. An empty cell says nothing of its subject.

    Raises:
        DataError: as `groups_of`.
    """
    groups = groups_of(domains, scores.header.split, columns)
    return replace(scores, header=scores.header.model_copy(update={"groups": groups}))


def groups_of(
    domains: Sequence[FolderDomain], split: Split, columns: Sequence[str]
) -> dict[str, dict[str, dict[str, str]]]:
    """By column and domain, what stands there for each subject of a split; see `with_groups`.

    Raises:
        DataError: if no case has such a column, or two cases of a subject say different things.
    """
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for column in columns:
        for domain in domains:
            rows = [row for row in domain.rows.values() if row.split == split]
            if not any(column in row.metadata for row in rows):
                known = ", ".join(sorted({name for row in rows for name in row.metadata})) or "none"
                raise DataError(f"Domain {domain.name!r} has no column {column!r} in its manifest; there is: {known}.")
            known_of = groups.setdefault(column, {}).setdefault(domain.name, {})
            for row in rows:
                if (value := row.metadata.get(column, "").strip()) and known_of.setdefault(row.subject, value) != value:
                    raise DataError(
                        f"Subject {row.subject!r} of domain {domain.name!r} has {column} {known_of[row.subject]!r} in "
                        f"one case and {value!r} in another; a subject belongs to one subgroup."
                    )
    return groups
