"""A plain torch training loop, without anything of `perdure.update` but the loss; on the kernels that it runs on."""

from __future__ import annotations

import copy

import torch
from torch import nn

from perdure.models import fast_kernels
from perdure.update import ClassificationLoss, Recipe, SegmentationLoss
from perdure.update.losses import median_frequency
from reference.domains import TinyDomain


def trained(model: nn.Module, domain: TinyDomain, recipe: Recipe, epochs: int | None = None) -> nn.Module:
    """A copy of the model after the recipe's epochs (or the first so many); it must not hold dropout."""
    model = copy.deepcopy(model).train()
    loss = ClassificationLoss()
    if domain.task == "segmentation":
        inputs, target = domain.samples("train")
        loss = SegmentationLoss(median_frequency([(inputs, target)], 3))
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay),
        "adam": lambda p: torch.optim.Adam(p, recipe.learning_rate, weight_decay=recipe.weight_decay),
        "adamw": lambda p: torch.optim.AdamW(p, recipe.learning_rate, weight_decay=recipe.weight_decay),
    }
    optimizer = kinds[recipe.optimizer](model.parameters())
    with fast_kernels(model):
        for epoch in range(recipe.epochs if epochs is None else epochs):
            for group in optimizer.param_groups:
                passed = sum(epoch >= round(share * recipe.epochs) for share in recipe.milestones)
                group["lr"] = recipe.learning_rate * recipe.decay**passed
            for inputs, target in domain.batches(
                "train", recipe.batch_size, seed=recipe.seed, epoch=epoch, augmentation=recipe.augmentation
            ):
                optimizer.zero_grad()
                loss(model(inputs), target).backward()
                if recipe.clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
                optimizer.step()
    return model
