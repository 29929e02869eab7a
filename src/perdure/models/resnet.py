"""ResNet-50 with the parameter names and shapes of the usual ImageNet checkpoints."""

from __future__ import annotations

from torch import nn

from perdure.models.spec import NetworkSpec


def resnet50(classes: int, in_channels: int = 3) -> nn.Module:
    """A 2-D ResNet-50 into which torchvision's ImageNet weights load by name.

    MONAI's own defaults build another network (stride 1 in the first convolution, biases in the shortcuts).

    Args:
        classes: outputs of the last linear layer.
        in_channels: channels of the image.

    Source: He et al. 2016; the network of Gupta et al. 2020.
    """
    from monai.networks.nets import resnet

    model: nn.Module = resnet.resnet50(
        spatial_dims=2,
        n_input_channels=in_channels,
        num_classes=classes,
        conv1_t_stride=2,
        bias_downsample=False,
    )
    model.network_spec = NetworkSpec(  # type: ignore[assignment]
        factory="resnet50", arguments={"classes": classes, "in_channels": in_channels}
    )
    return model
