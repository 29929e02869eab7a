from __future__ import annotations

from typing import Literal

import pytest

from perdure.errors import MethodError, check_choice
from perdure.importance import Importance


def test_a_misspelt_choice_is_refused_with_all_choices() -> None:
    check_choice("granularity", "filter", Literal["parameter", "filter"])
    with pytest.raises(MethodError) as error:
        check_choice("granularity", "filters", Literal["parameter", "filter"])
    assert str(error.value) == "`granularity` must be one of 'parameter', 'filter'; got 'filters'."


def test_the_interface_alone_measures_nothing() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Importance()
