from __future__ import annotations

from typing import Literal

import pytest

from perdure.errors import MethodError, check_choice
from perdure.importance import MAS, SI, Importance, Uniform


def test_a_misspelt_choice_is_refused_with_all_choices() -> None:
    check_choice("granularity", "filter", Literal["parameter", "filter"])
    with pytest.raises(MethodError) as error:
        check_choice("granularity", "filters", Literal["parameter", "filter"])
    assert str(error.value) == "`granularity` must be one of 'parameter', 'filter'; got 'filters'."


def test_the_interface_alone_measures_nothing() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Importance()


@pytest.mark.parametrize("kind", [SI, Uniform])
def test_domains_cannot_weigh_by_samples_where_none_are_read(kind: type[Importance]) -> None:
    """0 samples of 0 have no share."""
    with pytest.raises(MethodError, match=rf'and {kind.name} reads none. Use accumulation="mean"'):
        kind(accumulation="samples")
    assert MAS(accumulation="samples").accumulation == "samples"
