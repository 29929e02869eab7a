from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from perdure.errors import MethodError
from perdure.importance import Scaling, aggregate, clip_outliers, filter_axes, unit_range
from reference import importance as slow
from reference.networks import Tied

values = st.floats(0, 1e6, width=32)
networks = st.dictionaries(st.sampled_from("abcd"), st.lists(values, min_size=1, max_size=12), min_size=1)


def tensors(content: dict[str, list[float]]) -> dict[str, Tensor]:
    return {name: torch.tensor(numbers, dtype=torch.float32) for name, numbers in content.items()}


def flat(omega: dict[str, Tensor]) -> list[float]:
    return [x for value in omega.values() for x in value.flatten().tolist()]


def test_outliers_go_to_the_boundary_of_the_interquartile_range_criterion() -> None:
    """0, 1, 2, 3, 4 and 100 over two tensors: Q1 = 1.25 and Q3 = 3.75 (linear), so 3.75 + 1.5 * 2.5 = 7.5."""
    clipped = clip_outliers(tensors({"a": [0, 100, 2], "b": [1, 3, 4]}))
    assert clipped["a"].tolist() == [0.0, 7.5, 2.0]
    assert clipped["b"].tolist() == [1.0, 3.0, 4.0]


def test_small_outliers_are_raised_to_the_lower_boundary() -> None:
    """0, 10, 11, 12 and 13: Q1 = 10, Q3 = 12, so 10 - 3 = 7."""
    assert flat(clip_outliers(tensors({"a": [0, 10, 11, 12, 13]}))) == [7, 10, 11, 12, 13]


def test_the_lower_boundary_is_at_least_0() -> None:
    """0, 1, 10, 11: Q1 - 1.5 IQR = 0.75 - 1.5 * 9.5 is below 0, and nothing is."""
    assert flat(clip_outliers(tensors({"a": [0, 1, 10, 11]}))) == [0, 1, 10, 11]
    assert min(flat(clip_outliers({"a": torch.tensor([-5.0, 1, 10, 11])}))) == 0


@given(content=networks)
def test_the_boundaries_are_numpys_with_linear_quantiles(content: dict[str, list[float]]) -> None:
    everything = np.array([x for numbers in content.values() for x in numbers], dtype=np.float64)
    first, third = np.percentile(everything, [25, 75], method="linear")
    expected = np.clip(everything, max(first - 1.5 * (third - first), 0), third + 1.5 * (third - first))
    np.testing.assert_allclose(flat(clip_outliers(tensors(content))), expected, rtol=1e-6)


def test_more_values_than_torch_has_quantiles_for() -> None:
    """2**24 + 10 values: as many 0 as 2, so that Q1 = 0 and Q3 = 2, and one outlier that goes to 5."""
    omega = torch.zeros(2**24 + 10)
    omega[::2] = 2
    omega[1] = 1000
    clipped = clip_outliers({"w": omega})["w"]
    assert clipped[:3].tolist() == [2, 5, 2]
    assert clipped.max() == 5


def test_the_range_is_mapped_to_0_and_1() -> None:
    assert flat(unit_range(tensors({"a": [1, 3], "b": [5]}))) == [0, 0.5, 1]


@given(content=networks)
def test_the_smallest_becomes_0_and_the_largest_1_exactly(content: dict[str, list[float]]) -> None:
    before = np.array([x for numbers in content.values() for x in numbers])
    after = np.array(flat(unit_range(tensors(content))))
    if before.min() == before.max():
        assert not after.any()
    else:
        assert after[before.argmin()] == 0
        assert after[before.argmax()] == 1
        expected = (before - before.min()) / (before.max() - before.min())
        np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-7)


def test_where_all_is_the_same_nothing_is_protected() -> None:
    assert flat(unit_range(tensors({"a": [3, 3], "b": [3]}))) == [0, 0, 0]


@given(content=networks, scope=st.sampled_from(["network", "layer"]))
def test_scaled_importance_lies_in_the_unit_range_and_keeps_the_order(content: dict[str, list[float]], scope) -> None:
    omega = tensors(content)
    for name, scaled in Scaling(scope=scope)(omega).items():
        assert scaled.min() >= 0
        assert scaled.max() <= 1
        order = omega[name].argsort()
        assert (scaled[order].diff() >= 0).all()


def test_clipping_comes_before_the_range() -> None:
    """0, 1, 2, 3, 4 and 100 are clipped at 7.5 (see above), so 3 becomes 3 / 7.5 and not 3 / 100."""
    scaled = Scaling()(tensors({"a": [0, 100, 2], "b": [1, 3, 4]}))
    assert scaled["b"].tolist() == pytest.approx([1 / 7.5, 3 / 7.5, 4 / 7.5])
    assert scaled["a"].tolist() == pytest.approx([0, 1, 2 / 7.5])


def test_without_clipping_one_outlier_takes_the_whole_range() -> None:
    scaled = Scaling(outliers="keep")(tensors({"a": [0, 100, 2], "b": [1, 3, 4]}))
    assert flat(scaled) == pytest.approx([0, 1, 0.02, 0.01, 0.03, 0.04])


def test_a_raw_range_is_only_clipped_or_nothing_at_all() -> None:
    omega = tensors({"a": [0, 100, 2], "b": [1, 3, 4]})
    assert flat(Scaling(range="raw")(omega)) == [0, 7.5, 2, 1, 3, 4]
    assert flat(Scaling("keep", "raw")(omega)) == flat(omega)


def test_layers_on_their_own_differ_from_the_network() -> None:
    """Each of the two large layers has its own 0 and 1."""
    scaled = Scaling(scope="layer")(tensors({"a": [0, 1, 2, 4], "b": [100, 101, 102, 104]}))
    assert scaled["a"].tolist() == [0, 0.25, 0.5, 1]
    assert scaled["b"].tolist() == [0, 0.25, 0.5, 1]


@pytest.mark.parametrize("small", [[3.0], [3.0, 1.0, 40.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
def test_a_layer_that_is_small_or_constant_follows_the_network(small: list[float]) -> None:
    """It gets what scope `network` gives it, whatever the other layers do among themselves."""
    omega = tensors({"large": [0, 1, 2, 4, 8, 900], "other": [700, 701, 705, 800], "small": small})
    expected = Scaling()(omega)["small"]
    assert Scaling(scope="layer")(omega)["small"].tolist() == expected.tolist()


def test_a_layer_of_which_only_the_outliers_differ_is_constant() -> None:
    """Its quartiles are equal, so that clipping makes one value of all: it follows the network."""
    omega = tensors({"large": [0, 1, 2, 3], "flat": [2, 2, 2, 2, 2, 2, 2, 9]})
    assert Scaling(scope="layer")(omega)["flat"].tolist() == Scaling()(omega)["flat"].tolist()


def test_scaling_changes_nothing_in_place() -> None:
    omega = tensors({"a": [0, 1, 2, 900]})
    Scaling()(omega)
    assert flat(omega) == [0, 1, 2, 900]


@pytest.mark.parametrize("setting", ["outliers", "range", "scope"])
def test_a_misspelt_setting_of_scaling_is_refused(setting: str) -> None:
    with pytest.raises(MethodError, match=f"`{setting}` must be one of '.*'; got 'netwrok'"):
        Scaling(**{setting: "netwrok"})


LAYERS = {
    "linear": (nn.Linear(3, 4), 0, 1),
    "conv1d": (nn.Conv1d(2, 4, 3), 0, 1),
    "conv2d": (nn.Conv2d(3, 4, (2, 3)), 0, 1),
    "conv2d, 1x1": (nn.Conv2d(3, 4, 1), 0, 1),
    "conv2d, two groups": (nn.Conv2d(4, 6, 3, groups=2), 0, 1),
    "conv3d": (nn.Conv3d(2, 3, 2), 0, 1),
    "transposed": (nn.ConvTranspose2d(3, 4, (2, 3)), 1, 1),
    "transposed, two groups": (nn.ConvTranspose2d(4, 6, 2, groups=2), 1, 2),
    "transposed, depthwise": (nn.ConvTranspose2d(4, 4, 3, groups=4), 1, 4),
    "transposed 1d": (nn.ConvTranspose1d(3, 4, 3), 1, 1),
    "transposed 3d, two groups": (nn.ConvTranspose3d(4, 2, 2, groups=2), 1, 2),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("granularity", ["parameter", "kernel", "filter"])
def test_means_agree_with_a_loop_over_weights(kind: str, granularity) -> None:
    layer, axis, groups = LAYERS[kind]
    weight = torch.rand_like(layer.weight.detach())
    found = aggregate({"weight": weight}, granularity, filter_axes(layer))["weight"]
    expected = {
        "parameter": lambda value: value,
        "kernel": slow.kernel_means,
        "filter": lambda value: slow.filter_means(value, axis, groups),
    }[granularity](weight.double().numpy())
    np.testing.assert_allclose(found.expand_as(weight).numpy(), expected, rtol=1e-6)
    if granularity != "parameter":
        assert all(size == 1 for size in found.shape[2:])


@pytest.mark.parametrize("kind", LAYERS)
def test_a_filter_is_all_that_reaches_one_output_channel(kind: str) -> None:
    """Weights of the same filter are those whose change moves the same output channel, and none is left out."""
    layer, _, _ = LAYERS[kind]
    layer = type(layer)(**_arguments(layer)).double()
    inputs = torch.rand(1, _inputs(layer), *[4] * (layer.weight.ndim - 2), dtype=torch.float64)
    channels = torch.empty_like(layer.weight, dtype=torch.int64).flatten()
    for index in range(layer.weight.numel()):
        with torch.no_grad():
            layer.weight.zero_().view(-1)[index] = 1
            moved = layer(inputs).flatten(2).abs().sum(-1)[0] if inputs.ndim > 2 else layer(inputs)[0].abs()
        assert int((moved > 0).sum()) == 1
        channels[index] = moved.argmax()
    marks = channels.view_as(layer.weight).double()
    found = aggregate({"weight": marks}, "filter", filter_axes(layer))["weight"].expand_as(marks)
    assert torch.equal(found, marks)


def _arguments(layer: nn.Module) -> dict[str, object]:
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features, "bias": False}
    names = ("in_channels", "out_channels", "kernel_size", "groups")
    return {name: getattr(layer, name) for name in names} | {"bias": False}


def _inputs(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("granularity", ["kernel", "filter"])
def test_the_mean_of_ones_is_one_and_of_means_the_mean(kind: str, granularity) -> None:
    layer, _, _ = LAYERS[kind]
    axes = filter_axes(layer)
    assert aggregate({"weight": torch.ones_like(layer.weight)}, granularity, axes)["weight"].unique().tolist() == [1.0]
    once = aggregate({"weight": torch.rand_like(layer.weight)}, granularity, axes)
    torch.testing.assert_close(aggregate(once, granularity, axes), once)


def test_biases_and_affine_parameters_stay_one_value_each() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU(), nn.Embedding(2, 3))
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    found = aggregate(omega, "filter", filter_axes(model))
    assert {name for name in omega if found[name].shape != omega[name].shape} == {"0.weight"}


def test_averages_are_taken_after_clipping_and_the_range() -> None:
    """Of two filters (0, 100) and (2, 2): scaled they are (0, 1) and (0.02, 0.02), the means 0.5 and 0.02.

    Averaged first, they would be 50 and 2, which scale to 1 and 0.
    """
    omega = {"weight": torch.tensor([[0.0, 100.0], [2.0, 2.0]])}
    scaled = aggregate(Scaling(outliers="keep")(omega), "filter", {"weight": (0, 1)})
    assert scaled["weight"].flatten().tolist() == pytest.approx([0.5, 0.02])


def test_axes_name_shared_weights_once_and_skip_computed_ones() -> None:
    """A weight under weight norm is computed in every pass; its parts are parameters and stay as they are."""
    assert set(filter_axes(Tied())) == {"first.weight", "twice.weight", "head.weight"}
    computed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), nn.Linear(2, 2))
    assert filter_axes(computed) == {"1.weight": (0, 1)}


def test_axes_know_transposed_convolutions_and_their_groups() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.ConvTranspose2d(4, 2, 2, groups=2), nn.BatchNorm2d(2))
    assert filter_axes(model) == {"0.weight": (0, 1), "1.weight": (1, 2)}


def test_a_misspelt_granularity_is_refused() -> None:
    with pytest.raises(
        MethodError, match="`granularity` must be one of 'parameter', 'kernel', 'filter'; got 'filters'"
    ):
        aggregate({}, "filters", {})
