from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perdure.errors import MethodError
from perdure.regularization import Distillation, Past
from reference.networks import NETWORKS, everything, network, samples
from reference.processes import Threads


class Answers(nn.Module):
    """Logits that are what they are, whatever the input."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([logits], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_value_and_gradient_by_hand(temperature: float) -> None:
    """Teacher T log(3) against 0: p = (3/4, 1/4). Student 0 against 0: q = (1/2, 1/2).

    KL = 3/4 log(3/2) + 1/4 log(1/2), times λT². Its gradient by the logits is λT² (q - p) / T = λT (-1/4, 1/4).
    """
    teacher, student = Answers(temperature * math.log(3), 0.0), Answers(0.0, 0.0)
    x = torch.zeros(5, 1)
    penalty = Distillation(7.0, temperature).penalty(student, Past(teacher=teacher), x, student(x))
    penalty.backward()
    expected = 7 * temperature**2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert penalty.item() == pytest.approx(expected, abs=1e-10)
    gradient = torch.tensor([[-0.25, 0.25]]).double() * 7 * temperature
    torch.testing.assert_close(student.logits.grad, gradient, rtol=0, atol=1e-10)
    assert teacher.logits.grad is None


def test_for_a_high_temperature_it_is_the_squared_distance_of_logits() -> None:
    """That is what T² is for: λ/2K |z - z*|² for K classes and logits of mean 0 (Hinton et al. 2015, section 2.1)."""
    teacher, student = Answers(1.0, -3.0, 2.0), Answers(0.5, 0.0, -0.5)
    x = torch.zeros(1, 1)
    value = Distillation(2.0, 1e4).penalty(student, Past(teacher=teacher), x, student(x))
    assert value.item() == pytest.approx(2 / (2 * 3) * (0.5**2 + 3**2 + 2.5**2), rel=1e-3)


def test_it_is_the_mean_over_all_pixels() -> None:
    """One pixel of four differs, in one of two images: an eighth of its divergence."""
    torch.manual_seed(0)

    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    before = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    now = before.clone()
    now[1, :, 0, 1] += torch.tensor([1.0, 0.0, -1.0])
    p, q = (z[1, :, 0, 1].softmax(0) for z in (before, now))
    expected = (p * (p / q).log()).sum() / 8
    found = Distillation(1.0, 1.0).penalty(nn.Linear(1, 1), Past(teacher=Echo()), before, now)
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)


def test_a_batch_that_is_split_over_two_processes_unequally_is_kept_as_the_whole() -> None:
    """Five images as 3 and 2: both have its value; the gradient of a share is the whole one times two processes."""
    torch.manual_seed(0)
    before, now = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64)

    def kept(before: torch.Tensor, now: torch.Tensor, past: Past) -> tuple[float, torch.Tensor]:
        now = now.clone().requires_grad_()
        penalty = Distillation(1.0, 2.0).penalty(nn.Linear(1, 1), past, before, now)
        (gradient,) = torch.autograd.grad(penalty, now)
        return penalty.item(), gradient

    value, gradient = kept(before, now, Past(teacher=nn.Identity()))
    threads = Threads(2)
    # a teacher each, as processes have: its mode is changed while it answers
    pasts = [Past(teacher=nn.Identity(), sum_over_processes=threads.sum) for _ in range(2)]
    parts = list(zip(before.split((3, 2)), now.split((3, 2)), pasts, strict=True))
    shares = threads.run(lambda part: kept(*part), parts)
    assert [share for share, _ in shares] == pytest.approx([value, value], rel=1e-12)
    torch.testing.assert_close(torch.cat([slope for _, slope in shares]), 2 * gradient, rtol=1e-12, atol=0)


@given(kind=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 10_000), temperature=st.floats(0.5, 8))
def test_it_is_nothing_where_the_answers_agree_and_never_negative(kind: str, seed: int, temperature: float) -> None:
    """Value and gradient; the teacher answers in evaluation mode and is left as it is, random numbers included."""
    model, teacher = network(kind, seed).eval(), network(kind, seed).train()
    before = everything(teacher)
    form, past, x = Distillation(3.0, temperature), Past(teacher=teacher), samples(3, seed)
    penalty = form.penalty(model, past, x, model(x))
    penalty.backward()
    assert 0 <= penalty.item() < 1e-5
    assert all(float(p.grad.abs().max()) < 1e-4 for p in model.parameters())
    assert everything(teacher) == before
    other = network(kind, seed + 1).eval()
    assert form.penalty(other, past, x, other(x)).item() > 0


def test_half_precision_answers_are_compared_in_single() -> None:
    teacher = Answers(1.0, 0.0)
    student = teacher.logits.detach().to(torch.bfloat16)
    penalty = Distillation().penalty(teacher, Past(teacher=teacher), torch.zeros(1, 1), student)
    assert penalty.item() == pytest.approx(0, abs=1e-6)


def test_without_answers_there_is_nothing_to_keep() -> None:
    model, x = network("linear", 0), samples(2, 0)
    for arguments in ((), (x,), (x, model(x))):
        with pytest.raises(MethodError, match=r"call retained.penalty\(inputs, output\)"):
            Distillation().penalty(model, Past(), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1.0}, "`strength` must be a number of at least 0; got -1"),
        ({"strength": math.nan}, "`strength`"),
        ({"strength": math.inf}, "`strength`"),
        ({"temperature": 0.0}, "`temperature` must be a number above 0; got 0"),
        ({"temperature": math.inf}, "`temperature`"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Distillation(**arguments)
