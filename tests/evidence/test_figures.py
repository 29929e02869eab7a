from __future__ import annotations

import base64
import io
from collections.abc import Callable
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from perdure.errors import EvaluationError
from perdure.evaluation import TrainTestMatrix
from perdure.evidence.figures import _Scale, change_heat_map, matrix_heat_map, slice_image, structure_colours

MakeMatrix = Callable[..., TrainTestMatrix]

R = [[0.9, 0.4, 0.2], [0.7, 0.8, 0.3]]


def texts(svg: str, kind: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("text") if node.get("class") == kind]  # noqa: S314


def rectangles(svg: str, kind: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(svg).iter("rect") if node.get("class") == kind]  # noqa: S314


def pixels(uri: str) -> np.ndarray:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


class TestMatrixHeatMap:
    def test_holds_every_number_and_name(self, make_matrix: MakeMatrix) -> None:
        svg = matrix_heat_map(make_matrix(R), (0.0, 1.0))
        assert texts(svg, "value") == ["0.900", "0.400", "0.200", "0.700", "0.800", "0.300"]
        assert texts(svg, "label") == ["site-1", "site-2", "site-3", "after site-1", "after site-2"]
        assert texts(svg, "small") == ["0.000", "1.000"]

    def test_frames_the_domain_just_learnt(self, make_matrix: MakeMatrix) -> None:
        frames = rectangles(matrix_heat_map(make_matrix(R), (0.0, 1.0)), "frame")
        assert len(frames) == 2
        assert frames[0].get("x") < frames[1].get("x")
        assert frames[0].get("y") < frames[1].get("y")

    def test_the_same_score_has_the_same_colour_in_matrices_that_are_compared(self, make_matrix: MakeMatrix) -> None:
        one, other = make_matrix([[0.5, 0.2], [0.2, 0.9]]), make_matrix([[0.8, 0.7], [0.7, 0.5]])

        def colour_of_half(matrix: TrainTestMatrix) -> str | None:
            root = ET.fromstring(matrix_heat_map(matrix, (0.2, 0.9)))  # noqa: S314
            cell = next(g for g in root.iter("g") if g.findtext("text") == "0.500")
            return cell.find("rect").get("fill")

        assert colour_of_half(one) == colour_of_half(other)

    def test_a_cell_without_a_score_is_empty(self, make_matrix: MakeMatrix) -> None:
        svg = matrix_heat_map(make_matrix([[0.5, np.nan], [0.2, 0.9]]), (0.0, 1.0))
        assert len(texts(svg, "value")) == 3
        assert len(rectangles(svg, "none")) == 1

    def test_names_cannot_break_out(self, make_matrix: MakeMatrix) -> None:
        svg = matrix_heat_map(make_matrix([[0.5]], names=['"><b>&']), (0.0, 1.0))
        assert texts(svg, "label")[0] == '"><b>&'
        assert "<b>" not in svg

    def test_long_names_are_shortened_in_the_middle_and_told_in_full(self, make_matrix: MakeMatrix) -> None:
        name = "hospital of the north, scanner 2"
        svg = matrix_heat_map(make_matrix([[0.5]], names=[name]), (0.0, 1.0))
        assert texts(svg, "label") == ["hospital…anner 2", "after hospital…anner 2"]
        assert name in svg

    def test_can_be_read_without_seeing(self, make_matrix: MakeMatrix) -> None:
        root = ET.fromstring(matrix_heat_map(make_matrix(R), (0.0, 1.0)))  # noqa: S314
        assert root.get("role") == "img"
        assert "on site-1 after site-2: 0.700" in root.get("aria-label")

    def test_equal_limits_are_drawn(self, make_matrix: MakeMatrix) -> None:
        assert texts(matrix_heat_map(make_matrix([[0.5]]), (0.5, 0.5)), "value") == ["0.500"]


class TestChangeHeatMap:
    def test_shows_only_domains_learnt_before(self, make_matrix: MakeMatrix) -> None:
        svg = change_heat_map(make_matrix(R), 0.3)
        assert texts(svg, "value") == ["−0.200"]
        assert texts(svg, "small") == ["−0.300", "+0.300"]
        assert "site-3" not in svg

    def test_no_change_is_the_middle_loss_is_red_gain_is_blue(self) -> None:
        scale = _Scale("RdBu", -0.3, 0.3, signed=True)

        def channels(value: float) -> tuple[int, ...]:
            return tuple(int(scale.of(value)[0][i : i + 2], 16) for i in (1, 3, 5))

        assert min(channels(0.0)) > 240
        red, _, blue = channels(-0.2)
        assert red > blue + 50
        red, _, blue = channels(0.2)
        assert blue > red + 50
        assert scale.of(9.0) == scale.of(0.3)


@pytest.mark.parametrize("colours", ["viridis", "RdBu"])
def test_every_number_can_be_read_on_its_colour(colours: str) -> None:
    """WCAG 2 asks for a contrast of 4.5 for text."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for share in np.linspace(0, 1, 101):
        light, dark = sorted(map(luminance, _Scale(colours, 0, 1).at(float(share))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


class TestSlices:
    def test_grey_runs_from_black_to_white(self) -> None:
        picture = pixels(slice_image(np.array([[-3.0, 1.0], [5.0, 5.0]])))
        assert picture.shape == (2, 2, 3)
        np.testing.assert_array_equal(picture[..., 0], [[0, 128], [255, 255]])
        np.testing.assert_array_equal(picture[..., 0], picture[..., 2])

    def test_an_image_of_one_value_is_black(self) -> None:
        assert not pixels(slice_image(np.full((3, 3), 7.0))).any()

    def test_one_bright_pixel_does_not_darken_the_rest(self) -> None:
        image = np.tile(np.linspace(0, 1, 100), (100, 1))
        image[0, 0] = 1000
        assert pixels(slice_image(image))[50, 99, 0] == 255

    def test_labels_are_painted_except_background_and_ignored_pixels(self) -> None:
        image, labels = np.array([[0.0, 1.0, 1.0, 1.0]]), np.array([[0, 0, 1, 255]])
        plain, painted = pixels(slice_image(image)), pixels(slice_image(image, labels, ["#000000", "#ff0000"]))
        np.testing.assert_array_equal(painted[0, [0, 1, 3]], plain[0, [0, 1, 3]])
        np.testing.assert_array_equal(painted[0, 2], [255, 102, 102])

    def test_colour_images_keep_their_colours(self) -> None:
        image = np.zeros((1, 200, 3))
        image[0, 100:] = [1.0, 0.4, 0.0]
        np.testing.assert_array_equal(pixels(slice_image(image))[0, 150], [255, 102, 0])

    def test_refuses_a_volume(self) -> None:
        with pytest.raises(EvaluationError, match=r"`image` must have shape .*; got \(2, 2, 2, 2\)"):
            slice_image(np.zeros((2, 2, 2, 2)))

    def test_refuses_labels_of_another_shape(self) -> None:
        with pytest.raises(EvaluationError, match=r"`labels` must have the shape of the image, \(2, 2\); got \(2, 3\)"):
            slice_image(np.zeros((2, 2)), np.zeros((2, 3), int), ["#000000"])

    def test_refuses_a_label_without_a_colour(self) -> None:
        with pytest.raises(EvaluationError, match="`labels` holds 2; there are colours for 2 classes"):
            slice_image(np.zeros((1, 1)), np.full((1, 1), 2), structure_colours(2))


def test_structures_have_different_colours() -> None:
    colours = structure_colours(33)
    assert len(set(colours)) == 33
    assert structure_colours(4) == colours[:4]
