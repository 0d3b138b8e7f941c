"""ConvNeXt blocks over time (Liu et al. 2022, arXiv 2201.03545; one-dimensional as in Vocos, arXiv 2306.00814)."""

import torch
from torch import Tensor, nn

from distill.codec.spectral import mask_gaps

KERNEL_SIZE = 7
MATRIX_PRODUCT_STEPS = 64  # of the whole batch, up to which an unfolded matrix product is faster on a CPU


def convolve_time(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Convolution over T of `[B, T, inputs]` to `[B, T, outputs]`.

    As an image of height 1 with the channels last it needs no copies: two to three times as fast, forward and back.
    """
    if conv.groups == 1 and not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and _is_short(x):
        margin = KERNEL_SIZE // 2
        windows = nn.functional.pad(x, (0, 0, margin, margin)).unfold(1, KERNEL_SIZE, 1).flatten(2)
        return nn.functional.linear(windows, conv.weight.flatten(1), conv.bias)
    image = x.transpose(1, 2)[:, :, None]
    y = nn.functional.conv2d(
        image, conv.weight[:, :, None], conv.bias, padding=(0, KERNEL_SIZE // 2), groups=conv.groups
    )
    return y[:, :, 0].transpose(1, 2)


def _is_short(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.shape[0] * x.shape[1] <= MATRIX_PRODUCT_STEPS


class Pointwise(nn.Linear):
    """Linear layer in a given precision, with its converted weights cached where no gradient is needed.

    To convert them at every call, as autocast does, takes longer than the product itself when a sound is short.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self._cache: tuple[object, Tensor, Tensor] | None = None

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Product `[..., outputs]` of `[..., inputs]`, in `dtype`."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or dtype == self.weight.dtype:
            return nn.functional.linear(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return nn.functional.linear(x.to(dtype), *self._converted(dtype))

    def _converted(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # Every write to a tensor counts up its version, a move to a device its address.
        state = (dtype, *((tensor.data_ptr(), tensor._version) for tensor in (self.weight, self.bias)))
        if self._cache is None or self._cache[0] != state:
            self._cache = (state, self.weight.to(dtype), self.bias.to(dtype))
        return self._cache[1:]


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: depthwise convolution, LayerNorm, MLP of three times the width, layer scale, residual."""

    def __init__(self, width: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = Pointwise(width, 3 * width)
        self.dropout = nn.Dropout(dropout)
        self.contract = Pointwise(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Hidden states `[B, T, D]` of `[B, T, D]`, fp32; the MLP in `dtype`."""
        y = self.expand(self.norm(convolve_time(x, self.depthwise)), dtype)
        y = nn.functional.gelu(y)
        if self.training and self.dropout.p:
            # Whole channels of a crop drop out: to draw single values took as long as both layers.
            y = y * self.dropout(y.new_ones(len(y), 1, y.shape[2]))
        return torch.addcmul(x, self.scale, self.contract(y, dtype).float())


class ConvNeXtStack(nn.Module):
    """ConvNeXt backbone: input convolution, `num_layers` blocks and a final norm.

    `context` is the receptive field in steps to each side. Under autocast only the blocks' MLPs have its precision:
    convolutions and norms are faster and safer in fp32.
    """

    def __init__(self, inputs: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, dropout, 1 / num_layers) for _ in range(num_layers))
        self.final_norm = nn.LayerNorm(width)
        self.context = (KERNEL_SIZE // 2) * (num_layers + 1)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Hidden states `[B, T, width]` of `[B, T, inputs]`, fp32. Steps where `inside` `[T]` is 0 count as padding."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            x = self.norm(convolve_time(mask_gaps(x, inside), self.embed))
            for block in self.blocks:
                x = block(mask_gaps(x, inside), dtype)
            y: Tensor = self.final_norm(x)
        return y
