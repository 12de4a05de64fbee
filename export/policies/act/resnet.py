"""The ResNet under ACT's cameras: pictures become a feature map an 32nd of their size, under torchvision's parameter names.

Batch norm is frozen, so it is a scale and an offset. Width and depth of each stage are read from the weights; the family's name
says only which block they are made of. It knows no checkpoint and no camera.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-5
STAGES = 4
_BOTTLENECKS = {"resnet50", "resnet101", "resnet152"}
BACKBONES = {"resnet18", "resnet34", *_BOTTLENECKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a ResNet is built. `widths` are each stage's output channels; `is_dilated` keeps the last stage's resolution."""

    name: str
    stem: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    is_dilated: bool


class FrozenNorm(nn.Module):
    """Batch norm that learns nothing more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W)."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()
        offset = self.bias - self.running_mean * scale
        return features * scale[:, None, None] + offset[:, None, None]


class _Block(nn.Module):
    """A residual block; the subclasses say what is between the branches."""

    def __init__(self, channels: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels[0] != channels[1]:
            self.downsample = nn.Sequential(
                nn.Conv2d(*channels, kernel_size=1, stride=stride, bias=False), FrozenNorm(channels[1])
            )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) of this block's channels and stride."""
        kept = features if self.downsample is None else self.downsample(features)
        return torch.relu(self.branch(features) + kept)

    def branch(self, features: Tensor) -> Tensor:
        """What is learnt beside the shortcut."""
        raise NotImplementedError


class _Basic(_Block):
    def __init__(self, channels: tuple[int, int], *, stride: int, dilation: int) -> None:
        super().__init__(channels, stride)
        inner = channels[1]
        self.conv1 = _conv3(channels[0], inner, stride=stride, dilation=dilation)
        self.bn1, self.bn2 = FrozenNorm(inner), FrozenNorm(inner)
        self.conv2 = _conv3(inner, inner, stride=1, dilation=dilation)

    def branch(self, features: Tensor) -> Tensor:
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(features)))))


class _Bottleneck(_Block):
    def __init__(self, channels: tuple[int, int], *, stride: int, dilation: int) -> None:
        super().__init__(channels, stride)
        inner = channels[1] // 4
        self.conv1 = nn.Conv2d(channels[0], inner, kernel_size=1, bias=False)
        self.conv2 = _conv3(inner, inner, stride=stride, dilation=dilation)
        self.conv3 = nn.Conv2d(inner, channels[1], kernel_size=1, bias=False)
        self.bn1, self.bn2, self.bn3 = FrozenNorm(inner), FrozenNorm(inner), FrozenNorm(channels[1])

    def branch(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(features)))
        return self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(inner)))))


class ResNet(nn.Module):
    """Stem and four stages, without the classifier."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, shape.stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenNorm(shape.stem)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        block = _Bottleneck if shape.name in _BOTTLENECKS else _Basic
        before = shape.stem
        for index, (depth, width) in enumerate(zip(shape.depths, shape.widths, strict=True)):
            is_dilated = shape.is_dilated and index == STAGES - 1
            stride = 1 if index == 0 or is_dilated else 2
            dilation = 2 if is_dilated else 1
            # torchvision gives the first block of a dilated stage the dilation of the stage before.
            blocks = [block((before, width), stride=stride, dilation=1)]
            blocks += [block((width, width), stride=1, dilation=dilation) for _ in range(depth - 1)]
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
            before = width

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) scaled pictures → (B, C, ⌈H / 32⌉, ⌈W / 32⌉), or a 16th when dilated."""
        features = self.maxpool(torch.relu(self.bn1(self.conv1(pictures))))
        for index in range(STAGES):
            features = getattr(self, f"layer{index + 1}")(features)
        return features


def shape_of(name: str, weights: dict[str, Tensor], *, is_dilated: bool) -> Shape:
    """Widths and depths as the weights (under torchvision's names) have them. Raises KeyError where a stage is missing."""
    last = "conv3" if name in _BOTTLENECKS else "conv2"
    depths = []
    for stage in range(1, STAGES + 1):
        blocks = {key.split(".")[1] for key in weights if key.startswith(f"layer{stage}.")}
        depths.append(len(blocks))
    widths = tuple(weights[f"layer{stage}.0.{last}.weight"].shape[0] for stage in range(1, STAGES + 1))
    return Shape(name=name, stem=weights["conv1.weight"].shape[0], depths=tuple(depths), widths=widths, is_dilated=is_dilated)


def map_size(size: int, *, is_dilated: bool) -> int:
    """How many features a side of `size` pixels becomes: every halving rounds up."""
    for _ in range(4 if is_dilated else 5):
        size = (size + 1) // 2
    return size


def _conv3(before: int, after: int, *, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False)
