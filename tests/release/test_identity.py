from __future__ import annotations

import pytest
from pydantic import ValidationError

from perdure.release import Identity, Release, Seen
from perdure.release.release import with_id
from perdure.types import Counts


def test_it_survives_json_with_all_its_fields(release: Release) -> None:
    identity = with_id(release.identity)
    assert Identity.model_validate_json(identity.model_dump_json()) == identity


def test_an_unknown_field_is_an_error(release: Release) -> None:
    content = release.identity.model_dump(mode="json") | {"patients": ["Jane Doe"]}
    with pytest.raises(ValidationError, match="patients"):
        Identity.model_validate(content)


def test_a_measure_is_over_one_domain_at_least(release: Release) -> None:
    content = release.identity.model_dump(mode="json")
    content["measures"]["mas"]["domains"] = 0
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Identity.model_validate(content)


def test_the_id_is_of_the_content_and_not_of_the_id(release: Release) -> None:
    identity = with_id(release.identity)
    assert len(identity.id) == 64
    assert with_id(identity).id == identity.id
    assert with_id(identity.model_copy(update={"created": "2026-01-01T00:00:01+00:00"})).id != identity.id


def test_the_id_does_not_depend_on_the_order_of_settings(release: Release) -> None:
    turned = dict(reversed({"a": 1, "b": 2}.items()))
    one = with_id(release.identity.model_copy(update={"recipe": {"a": 1, "b": 2}}))
    other = with_id(release.identity.model_copy(update={"recipe": turned}))
    assert one.id == other.id


def test_it_cannot_be_changed(release: Release) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        release.identity.created = "yesterday"


def test_a_domain_without_intensities_is_written_as_before_they_were_kept() -> None:
    counts = Counts(subjects={}, cases={}, samples={})
    plain = Seen(domain="a", counts=counts, data="0" * 64)
    assert "intensities" not in plain.model_dump(mode="json")
    kept = plain.model_copy(update={"intensities": ((0.0, 0.5),)})
    assert Seen.model_validate_json(kept.model_dump_json()) == kept
