"""Small functions of torch, one for each operation and habit that networks have."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

nn, F = torch.nn, torch.nn.functional
Function = Callable[[Any], Any]
PICTURE, CLIP, SOUND = (1, 8, 12, 10), (1, 4, 5, 8, 6), (2, 4, 40)


def seeded(module: Any) -> Any:
    """Give a module with weights that are not those of its start, and buffers that are not 0 and 1."""
    torch.manual_seed(0)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) * 0.5 + 0.1
    return module.eval()


def written(x: Any) -> Any:
    y = x * 2
    y[:, :, 1:4] = x[:, :, :3] + 1
    y[:, :, -1] = 0.5
    y[:, 1::2] += 3
    return y


def zeroed(x: Any) -> Any:
    y = x * 2
    y[:, 1].zero_()
    y.transpose(1, 2)[:, 3].zero_()
    return y


def masked_writes(x: Any) -> Any:
    y = x * 2
    y[y < -1] = 0
    y[:, :, x[0, 0] > 1] = torch.tensor([0.5])
    y[:, :, [7, 1]] = x[:, :, :2]
    return y.index_fill(3, torch.tensor([2, 5]), 1.5).index_copy(1, torch.tensor([3]), x[:, :1])


def short_filter(x: Any) -> Any:
    taps = torch.linspace(-1, 1, 28).reshape(4, 7)
    return (taps @ x.unfold(2, 7, 3).permute(0, 2, 3, 1)).flatten(1, 2)


def haar(x: Any) -> Any:
    low, high = x[..., ::2] + x[..., 1::2], x[..., ::2] - x[..., 1::2]
    out = torch.zeros_like(x)
    out[..., ::2], out[..., 1::2] = low, high
    return out


def hand_made_group_norm(x: Any) -> Any:
    y = x.reshape(x.shape[0], 2, -1)
    variance, mean = torch.var_mean(y, dim=-1, keepdim=True, correction=0)
    return ((y - mean) * torch.rsqrt(variance + 1e-5)).reshape(x.shape)


def causal_mask(x: Any) -> Any:
    q = x.flatten(2).transpose(1, 2)
    mask = torch.full((q.shape[1], q.shape[1]), float("-inf"))
    for i in range(0, q.shape[1], 10):
        mask[i : i + 10, : i + 10] = 0
    return F.scaled_dot_product_attention(q[:, None], q[:, None], q[:, None], attn_mask=mask[None, None])


def heads(x: Any, **options: Any) -> Any:
    q = x.flatten(2).transpose(1, 2).unflatten(2, (4, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q, **options).transpose(1, 2).flatten(2)


def grouped_heads(x: Any) -> Any:
    q = x.flatten(2).transpose(1, 2).unflatten(2, (4, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q[:, :2], q[:, 2:], enable_gqa=True)


def linear_attention(x: Any) -> Any:
    q, k, v = (F.relu(x.flatten(2) + i) for i in range(3))
    kv = torch.einsum("bdn,ben->bde", v, k)
    return torch.einsum("bde,ben->bdn", kv, q) / (k.sum(-1, keepdim=True) * q).sum(1, keepdim=True)


def spectrum(x: Any) -> Any:
    y = torch.stft(x.flatten(0, 1), 8, 4, window=torch.hann_window(8), return_complex=True)
    return torch.view_as_real(y)


def waves(x: Any) -> Any:
    y = torch.polar(x[:, :2].exp().repeat(1, 2, 1)[:, :3], x[:, :3])
    return torch.istft(y, 4, 2, window=torch.hann_window(4))


def nearest_codes(x: Any) -> Any:
    book = torch.arange(20.0).reshape(5, 4) / 10 - 1
    codes = torch.cdist(x.mT, book).argmin(-1)
    return F.embedding(codes, book).mT + x.max(1, keepdim=True)[1]


def rolled_windows(x: Any) -> Any:
    y = torch.roll(x, (-2, 3), (2, 3)).unflatten(2, (-1, 4)).unflatten(4, (-1, 5))
    return y.permute(0, 2, 4, 1, 3, 5).softmax(-1)


def global_response(x: Any) -> Any:
    g = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return x * (g / (g.mean(1, keepdim=True) + 1e-6)) + x


def snake(x: Any) -> Any:
    alpha = torch.linspace(0.5, 1.5, x.shape[1])[None, :, None]
    return x + (1 / alpha) * torch.sin(alpha * x).pow(2)


def upsampled(size: Any = None, **options: Any) -> Function:
    return lambda x: F.interpolate(x, size, **options)


class Recurrent(nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.net = kind(4, 6, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.net(x.transpose(1, 2))[0]


def weight_normed() -> Any:
    with pytest.warns(FutureWarning):
        return torch.nn.utils.weight_norm(nn.Conv1d(4, 6, 5, padding=2))


def parametrized() -> Any:
    return torch.nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 6, 8, stride=4, padding=2))


CASES: dict[str, tuple[Function, tuple[int, ...]]] = {
    "conv2d": (seeded(nn.Conv2d(8, 6, 3, padding=1)), PICTURE),
    "conv2d stride": (seeded(nn.Conv2d(8, 6, 4, stride=2, padding=1, bias=False)), PICTURE),
    "conv2d dilation groups": (seeded(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)), PICTURE),
    "conv2d same": (seeded(nn.Conv2d(8, 6, 4, padding="same")), PICTURE),
    "conv2d reflect": (seeded(nn.Conv2d(8, 6, 3, padding=2, padding_mode="reflect")), PICTURE),
    "conv2d circular": (seeded(nn.Conv2d(8, 6, 3, padding=2, padding_mode="circular")), PICTURE),
    "conv1d": (seeded(nn.Conv1d(4, 6, 7, padding=9, dilation=3)), SOUND),
    "conv3d": (seeded(nn.Conv3d(4, 6, 3, padding=(0, 1, 1))), CLIP),
    "conv causal": (lambda x: F.conv3d(F.pad(x, (1, 1, 1, 1, 2, 0)), torch.ones(2, 4, 3, 3, 3)), CLIP),
    "conv unbatched": (lambda x: F.conv2d(x[0], torch.ones(2, 8, 3, 3), padding=1), PICTURE),
    "transposed1d": (seeded(nn.ConvTranspose1d(4, 6, 10, stride=5, padding=3, output_padding=1)), SOUND),
    "transposed2d": (seeded(nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)), PICTURE),
    "transposed short": (seeded(nn.ConvTranspose2d(8, 6, 2, stride=3)), PICTURE),
    "transposed dilated": (seeded(nn.ConvTranspose2d(8, 8, 3, stride=2, dilation=2, groups=2)), PICTURE),
    "weight_norm": (seeded(weight_normed()), SOUND),
    "weight_norm parametrized": (seeded(parametrized()), SOUND),
    "linear": (seeded(nn.Sequential(nn.Flatten(2), nn.Linear(120, 7))), PICTURE),
    "linear channels": (lambda x: F.linear(x.movedim(1, -1), torch.ones(5, 8), torch.ones(5)).movedim(-1, 1), PICTURE),
    "group norm": (seeded(nn.GroupNorm(4, 8)), PICTURE),
    "group norm plain": (seeded(nn.GroupNorm(2, 4, affine=False)), CLIP),
    "group norm by hand": (hand_made_group_norm, PICTURE),
    "instance norm": (seeded(nn.InstanceNorm2d(8, affine=True)), PICTURE),
    "batch norm": (seeded(nn.BatchNorm2d(8)), PICTURE),
    "batch norm plain": (seeded(nn.BatchNorm1d(4, affine=False)), SOUND),
    "layer norm": (lambda x: F.layer_norm(x.movedim(1, -1), (8,), torch.ones(8), torch.ones(8)), PICTURE),
    "layer norm of pictures": (
        lambda x: F.layer_norm(x, x.shape[1:], *torch.linspace(0, 1, 2 * x[0].numel()).view(2, *x.shape[1:])),
        (2, 8, 12, 12),
    ),
    "rms norm": (lambda x: F.rms_norm(x.movedim(1, -1), (8,), torch.ones(8)), PICTURE),
    "normalize": (lambda x: F.normalize(x, dim=1) * 8**0.5, CLIP),
    "global response": (global_response, PICTURE),
    "local response": (seeded(nn.LocalResponseNorm(3)), PICTURE),
    "squeeze excite": (lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1)), PICTURE),
    "mean": (lambda x: x - x.mean((2, 3), keepdim=True), PICTURE),
    "sums": (lambda x: x.sum(1) + x.amax(1) - x.amin(1) + x.std(1) + x.var(1, unbiased=False), PICTURE),
    "max": (lambda x: x.max(dim=2).values + x.min(dim=2)[0], PICTURE),
    "extremes": (lambda x: sum(torch.aminmax(x, dim=2)) - sum(torch.aminmax(x)), PICTURE),
    "middle": (lambda x: x.median(1)[0] + x.kthvalue(3, 1)[0] - x.round().mode(1).values, PICTURE),
    "any": (lambda x: (x > 0).any(1) & (x < 2).all(1), PICTURE),
    "argmax": (lambda x: x.argmax(1), PICTURE),
    "softmax": (lambda x: x.softmax(1).log_softmax(2), PICTURE),
    "cumsum": (lambda x: x.cumsum(-1), PICTURE),
    "renorm": (lambda x: torch.renorm(x, 2, 1, 1.0), PICTURE),
    "bucketize": (lambda x: torch.bucketize(x, torch.linspace(-1, 1, 7)), PICTURE),
    "searchsorted": (lambda x: torch.searchsorted(torch.arange(-1.0, 2), x, right=True), PICTURE),
    "isin": (lambda x: torch.isin((2 * x).long(), torch.tensor([0, 2, -3])), PICTURE),
    "complex variance": (lambda x: torch.complex(x, x.flip(2)).var((2, 3)), PICTURE),
    "conj": (lambda x: torch.complex(x, x.flip(2)).conj().imag, PICTURE),
    "bits": (lambda x: (x.flip(2).view(torch.int32) & -4096).view(torch.float32), PICTURE),
    "bytes": (lambda x: x.flip(2).view(torch.uint8), PICTURE),
    "sort": (lambda x: x.sort(dim=1).values, PICTURE),
    "nearest": (upsampled(scale_factor=2), PICTURE),
    "nearest exact": (upsampled((17, 23), mode="nearest-exact"), PICTURE),
    "nearest down": (upsampled((5, 7)), PICTURE),
    "nearest 3d": (upsampled(scale_factor=(1, 2, 2)), CLIP),
    "linear 1d": (upsampled(scale_factor=2.5, mode="linear"), SOUND),
    "bilinear": (upsampled(scale_factor=2, mode="bilinear"), PICTURE),
    "bilinear corners": (upsampled((23, 31), mode="bilinear", align_corners=True), PICTURE),
    "bilinear smooth": (upsampled((5, 7), mode="bilinear", antialias=True), PICTURE),
    "bicubic": (upsampled((29, 13), mode="bicubic"), PICTURE),
    "bicubic smooth": (upsampled((5, 7), mode="bicubic", antialias=True), PICTURE),
    "bilinear smooth aligned": (upsampled((5, 17), mode="bilinear", antialias=True, align_corners=True), PICTURE),
    "bicubic smooth aligned": (upsampled((1, 17), mode="bicubic", antialias=True, align_corners=True), PICTURE),
    "trilinear": (upsampled((7, 12, 9), mode="trilinear"), CLIP),
    "area": (upsampled((5, 7), mode="area"), PICTURE),
    "avg pool": (lambda x: F.avg_pool2d(x, 2), PICTURE),
    "avg pool padded": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), PICTURE),
    "avg pool divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), PICTURE),
    "avg pool 1d": (lambda x: F.avg_pool1d(x, 4, 3, 1), SOUND),
    "max pool": (lambda x: F.max_pool2d(x, 3, 2, 1), PICTURE),
    "max pool ceil": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), PICTURE),
    "max pool 1d": (lambda x: F.max_pool1d(x, 3, 2, 1, 2), SOUND),
    "adaptive max pool": (lambda x: F.adaptive_max_pool2d(x, (4, 5)) - F.adaptive_max_pool2d(x, 1), PICTURE),
    "adaptive max pool uneven": (lambda x: F.adaptive_max_pool2d(x, (5, 7)), PICTURE),
    "patches": (lambda x: F.unfold(x, (3, 2), (1, 2), (1, 0), (2, 1)).flip(1), PICTURE),
    "patches put back": (
        lambda x: F.fold(F.unfold(x, (5, 4), 1, (2, 1), 3) * 2, (12, 10), (5, 4), 1, (2, 1), 3),
        PICTURE,
    ),
    "patches unbatched": (lambda x: F.unfold(x[0], 3, padding=1), PICTURE),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), PICTURE),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), PICTURE),
    "channel shuffle": (lambda x: F.channel_shuffle(x, 4), PICTURE),
    "pad": (lambda x: F.pad(x, (1, 2, -1, 3), value=0.5), PICTURE),
    "pad replicate": (lambda x: F.pad(x, (2, 1, 1, 0, 2, 0), mode="replicate"), CLIP),
    "pad reflect": (lambda x: F.pad(x, (3, 2, 1, 4), mode="reflect"), PICTURE),
    "pad circular": (lambda x: F.pad(x, (3, 2), mode="circular"), SOUND),
    "written": (written, PICTURE),
    "zeroed": (zeroed, PICTURE),
    "out": (lambda x: torch.add(x, 1, out=torch.empty_like(x)) * 2, PICTURE),
    "haar": (haar, PICTURE),
    "cat": (lambda x: torch.cat([x, x[:, :2] * 2, x], 1), PICTURE),
    "stack": (lambda x: torch.stack([x, x + 1], 2).flatten(1, 2), PICTURE),
    "split": (lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1) + torch.cat(x.chunk(2, 2)[::-1], 2), PICTURE),
    "unbind": (lambda x: x.unbind(2)[3] + x.unbind(2)[-1], PICTURE),
    "flip": (lambda x: x.flip(2, -1), PICTURE),
    "quarter turns": (lambda x: torch.rot90(x, 1, (2, 3)).flip(1) + torch.rot90(x, -1, (-2, -1)) * 2, PICTURE),
    "half turn": (lambda x: torch.rot90(x, 2, (3, 1)), PICTURE),
    "roll": (lambda x: x.roll((1, -3), (2, 3)) + x.roll(7), PICTURE),
    "windows": (rolled_windows, PICTURE),
    "steps": (lambda x: x[:, ::3, 1:-1:2], PICTURE),
    "repeat": (lambda x: x[:, :1].repeat(2, 3, 1, 2), PICTURE),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), PICTURE),
    "expand": (lambda x: x[:, :, :1].expand(-1, -1, 4, -1) * 2, PICTURE),
    "reshape": (lambda x: x.reshape(2, 4, 6, 20).transpose(1, 3), PICTURE),
    "unfold": (lambda x: x.unfold(2, 10, 5).mean(-1), SOUND),
    "unfold alone": (lambda x: x.unfold(2, 10, 4), SOUND),
    "short filter": (short_filter, SOUND),
    "product of constants": (lambda x: x * float(F.linear(torch.ones(3, 4), torch.ones(2, 4)).sum()), SOUND),
    "index_select": (lambda x: x.index_select(2, torch.tensor([0, 0, 3, 2, 11])), PICTURE),
    "index": (lambda x: x[:, :, [1, 0, 5]][..., torch.arange(9, -1, -2)], PICTURE),
    "index grid": (lambda x: x[:, :, torch.arange(6)[:, None] * 2, torch.arange(10)[None]], PICTURE),
    "index mask": (lambda x: x[:, :, torch.arange(12) % 3 == 0], PICTURE),
    "nonzero": (lambda x: x[..., torch.tensor([0, 1, 1, 0, 1]).nonzero()[:, 0]], PICTURE),
    "repeats": (lambda x: x.repeat_interleave(torch.tensor([1, 2] * 5), 3), PICTURE),
    "strided": (lambda x: x.transpose(2, 3).contiguous().as_strided((10, 8, 5), (12, 120, 2), 3), PICTURE),
    "gather": (lambda x: x.gather(1, (x > 0).long()), PICTURE),
    "gather some": (lambda x: x.gather(2, x[:, :5, :, 2:].argsort(2)), PICTURE),
    "scatter": (lambda x: torch.zeros_like(x).scatter(1, x.topk(3, 1)[1], 1.0), PICTURE),
    "scatter add": (lambda x: x.scatter_add(2, x.argmax(2, keepdim=True), x[:, :, :1]), PICTURE),
    "masked writes": (masked_writes, PICTURE),
    "one of several": (lambda x: F.one_hot(x.argmax(1), 8).movedim(-1, 1) * x, PICTURE),
    "table": (lambda x: torch.arange(24.0).view(8, 3)[x.argmax(1)], PICTURE),
    "tril": (lambda x: x.tril(1) + x.triu(-2), PICTURE),
    "arange": (lambda x: x * torch.arange(10) + torch.linspace(0, 1, 12)[:, None], PICTURE),
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x).masked_fill(x > 1, 1.0).clamp(-1, 1), PICTURE),
    "activations": (lambda x: F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.elu(x) + F.mish(x), PICTURE),
    "more activations": (lambda x: F.hardswish(x) + F.leaky_relu(x) + F.softplus(x) + torch.tanh(x), PICTURE),
    "glu": (lambda x: F.glu(x, 1), PICTURE),
    "cells": (lambda x: F.hardswish(x) + F.logsigmoid(x) - F.rrelu(x), PICTURE),
    "rrelu": (nn.RReLU().eval(), PICTURE),
    "prelu": (seeded(nn.PReLU(8)), PICTURE),
    "snake": (snake, SOUND),
    "attention": (heads, PICTURE),
    "attention causal": (lambda x: heads(x, is_causal=True, scale=0.5), PICTURE),
    "attention masked": (causal_mask, PICTURE),
    "attention grouped": (grouped_heads, PICTURE),
    "attention layer": (
        seeded(nn.Sequential(nn.Flatten(2), nn.Linear(120, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))),
        PICTURE,
    ),
    "attention by hand": (lambda x: (x.flatten(2).mT @ x.flatten(2)).softmax(-1) @ x.flatten(2).mT, PICTURE),
    "linear attention": (linear_attention, PICTURE),
    "baddbmm": (lambda x: torch.baddbmm(x[0], x[0], x[0, :, :10] * 2, beta=0.5, alpha=2), (1, 8, 12, 10)),
    "einsum of rows": (lambda x: torch.einsum("bchw,wk->bchk", x, torch.arange(30.0).view(10, 3)), PICTURE),
    "einsum of channels": (lambda x: torch.einsum("bdchw,bdnhw->bcnhw", *(x.view(2, 2, 2, 12, 10),) * 2), PICTURE),
    "einsum": (lambda x: torch.einsum("bchw,dc->bdhw", x, torch.ones(3, 8)), PICTURE),
    "fft": (lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=-1) * 2, n=10), PICTURE),
    "stft": (spectrum, SOUND),
    "istft": (waves, SOUND),
    "windows that are summed": (
        lambda x: (
            torch.ops.aten.unfold_backward(x.unfold(1, 3, 2) * 2, [2, 4, 40], 1, 3, 2)
            + torch.ops.aten.unfold_backward(x.unfold(2, 7, 4), [2, 4, 40], 2, 7, 4)
        ),
        SOUND,
    ),
    "codes": (nearest_codes, SOUND),
    "lstm": (seeded(Recurrent(nn.LSTM)), SOUND),
    "gru": (seeded(Recurrent(nn.GRU)), SOUND),
    "grid_sample": (lambda x: F.grid_sample(x, torch.zeros(1, 4, 4, 2), align_corners=False), PICTURE),
    "samples where it says": (lambda x: F.grid_sample(x, x[:, :2, :5].movedim(1, -1), align_corners=True), PICTURE),
    "samples of clips": (
        lambda x: F.grid_sample(x, x[:, :3, :2].movedim(1, -1), "nearest", "border", align_corners=False),
        CLIP,
    ),
    "to float64": (lambda x: (x.double() * 2).float(), PICTURE),
    "integers": (lambda x: (x * 127).to(torch.int32) // 3, PICTURE),
    "input": (lambda x: x, PICTURE),
    "view of input": (lambda x: x[:, 1:].transpose(2, 3), PICTURE),
}
