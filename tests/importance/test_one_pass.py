from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.importance import per_sample
from perdure.importance.one_pass import OnePass, one_pass
from perdure.importance.per_sample import Term, mean_over_terms
from perdure.types import one_process


class Shared(nn.Module):
    """A convolution and a PReLU used twice each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.slope = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.slope(self.layer(self.slope(self.layer(x))))


class Residual(nn.Module):
    """A ReLU and a sum that write into what a layer gave."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu_(self.first(x))
        y = self.second(x)
        y += x
        return functional.relu_(y)


PICTURE, LINE, VOLUME, TOKENS = (4, 3, 8, 8), (4, 3, 9), (4, 3, 6, 6, 6), (4, 5, 3)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2), PICTURE),
    "one of single pixels": (lambda: nn.Conv2d(3, 4, 1), PICTURE),
    "in groups, same": (lambda: nn.Conv2d(3, 6, 5, padding="same", groups=3), PICTURE),
    "valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid", bias=False), PICTURE),
    "1-D": (lambda: nn.Conv1d(3, 4, 3), LINE),
    "3-D": (lambda: nn.Conv3d(3, 4, 3, stride=2), VOLUME),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), PICTURE),
    "transposed, 3-D": (lambda: nn.ConvTranspose3d(3, 2, 2, stride=2, groups=1), VOLUME),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), PICTURE),
    "linear of tokens": (lambda: nn.Linear(3, 5), TOKENS),
    "batch norm": (lambda: nn.BatchNorm2d(3), PICTURE),
    "batch norm of rows": (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192)), PICTURE),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), PICTURE),
    "group norm": (lambda: nn.GroupNorm(3, 3), PICTURE),
    "layer norm": (lambda: nn.LayerNorm(3), TOKENS),
    "layer norm of two axes": (lambda: nn.LayerNorm((8, 8)), PICTURE),
    "PReLU": (lambda: nn.PReLU(), PICTURE),
    "PReLU by channel": (lambda: nn.PReLU(3), PICTURE),
    "shared": (Shared, PICTURE),
    "written into": (Residual, PICTURE),
}


class Rows(nn.Module):
    """Something before and behind, so that the layer is not the first one."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.layer = nn.PReLU(), layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.layer(self.before(x)))


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build().double().eval()
    for tensor in [*model.parameters(), *(b for b in model.buffers() if b.dtype == torch.float64)]:
        with torch.no_grad():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return model


def two_terms(inputs: Tensor, output: Tensor, target: Tensor | None) -> list[Term]:
    """One that counts alike for all samples, and one that does not."""
    flat = output.flatten(1)
    return [Term(flat.square().sum(dim=1), 2.0), Term(flat[:, 0] * flat[:, -1], inputs.detach().flatten(1).sum(dim=1))]


def plainly(model: nn.Module, inputs: Tensor, transform: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Each sample and term by itself."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for x in inputs.split(1):
        for place in range(2):
            value, weight = two_terms(x, model(x), None)[place]
            gradients = torch.autograd.grad(value.sum(), list(parameters.values()))
            for name, g in zip(parameters, gradients, strict=True):
                total[name] += transform(g) * float(weight) / len(inputs)
    return total


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each pass took that counted; two of them are tried first."""
    seen: list[int] = []
    forward = OnePass.forward

    def spy(self: OnePass, model: nn.Module, inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        return forward(self, model, inputs)

    monkeypatch.setattr(OnePass, "forward", spy)
    return seen


@pytest.mark.parametrize("transform", [torch.abs, torch.square])
@pytest.mark.parametrize("is_first", [True, False], ids=["first layer", "later layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_each_sample_its_own_gradient(
    kind: str, is_first: bool, transform: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    build, shape = LAYERS[kind]
    model = made(build if is_first else lambda: Rows(build()))
    inputs = torch.randn(shape, dtype=torch.float64)
    expected = plainly(model, inputs, transform)
    seen = counted(monkeypatch)
    found = mean_over_terms(model, [inputs], two_terms, transform, one_process)
    assert seen == [2, 2]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


class Tokens(nn.Module):
    """Takes the tokens of all samples for a batch of their own: with one a sample they cannot be told from samples."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        each = self.each(x.reshape(-1, 4)).square().reshape(*x.shape[:2], 6)
        found: Tensor = self.last(each.mean(dim=1))
        return found


class Chosen(nn.Module):
    """Has a layer that sees those samples alone which lie above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.some = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        above = (x[:, 0] > 0).nonzero()[:, 0]
        found: Tensor = self.all(x).index_add(0, above, self.some(x[above]))
        return found


@pytest.mark.parametrize(
    ("kind", "batches"),
    [
        (Tokens, [torch.randn(3, 1, 4), torch.randn(5, 7, 4)]),
        (Chosen, [torch.ones(3, 4), torch.tensor([[1.0], [-1], [1], [-1]]).expand(4, 4)]),
        (Chosen, [-torch.ones(3, 4), torch.ones(2, 4)]),
    ],
)
def test_what_a_layer_no_longer_sees_sample_by_sample_is_measured_so(
    kind: type[nn.Module], batches: list[Tensor]
) -> None:
    model = kind().double()
    batches = [batch.double() for batch in batches]
    count = sum(map(len, batches))
    each = [plainly(model, batch, torch.abs) for batch in batches]
    found = mean_over_terms(model, batches, two_terms, torch.abs, one_process)
    for name, value in found.items():
        expected = sum(one[name] * len(batch) / count for one, batch in zip(each, batches, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


def test_no_more_samples_go_together_than_fit_into_memory_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)).double()
    inputs = torch.randn(9, 1, 8, 8, dtype=torch.float64)
    expected = plainly(model, inputs, torch.abs)
    seen = counted(monkeypatch)
    # the output of the convolution is the largest, 2 x 6 x 6 numbers
    monkeypatch.setattr("perdure.importance.per_sample.BYTES_TOGETHER", 3 * 8 * 2 * 6 * 6)
    found = mean_over_terms(model, [inputs], two_terms, torch.abs, one_process)
    assert seen == [2, 3, 3, 1]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


class Mixing(nn.Module):
    """Takes off the mean over the batch: samples see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y - y.mean(dim=0) if len(y) > 1 else y


class Outside(nn.Module):
    """Uses the weight of a layer outside of the layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.layer(x), self.layer.weight)


class Overwriting(nn.Module):
    """Writes into the input of a layer after its use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        y = self.layer(x)
        x.zero_()
        return y + x


class Scale(nn.Module):
    """A parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Conv2d(3, 3, 1), nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x)


class Doubled(nn.Conv2d):
    """Inherits from a known layer and does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


# `Overwriting` cannot be measured plainly either: torch needs the input for the gradient of the weight
ODD = {
    "mixing": Mixing,
    "outside": Outside,
    "a parameter of its own": Scale,
    "a class of its own": lambda: Doubled(3, 3, 1),
    "reflecting": lambda: nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_one_pass_would_get_wrong_is_measured_sample_by_sample(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(ODD[kind])
    inputs = torch.randn(PICTURE, dtype=torch.float64)
    expected = plainly(model, inputs, torch.abs)
    seen = counted(monkeypatch)
    found = mean_over_terms(model, [inputs], two_terms, torch.abs, one_process)
    assert seen in ([], [2])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)


def test_an_input_that_was_overwritten_is_noticed() -> None:
    model = made(Overwriting)
    together = one_pass(model, dict(model.named_parameters()))
    assert together is not None
    with together.watched():
        output = together.forward(model, torch.randn(PICTURE, dtype=torch.float64))
        with pytest.raises(per_sample.OutOfReach):
            together.gradients(output.sum(), lambda *_: None, False)


def test_an_error_leaves_no_hook_and_no_frozen_parameter() -> None:
    model = made(Residual)
    together = one_pass(model, dict(model.named_parameters()))
    assert together is not None
    with pytest.raises(ZeroDivisionError), together.watched():
        raise ZeroDivisionError
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
