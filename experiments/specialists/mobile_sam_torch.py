"""MobileSAM in PyTorch, the reference that dtr1_jax is compared with: in results by tests, in speed by real_weights.py.

TinyViT is written here from its description (arXiv 2207.10666, and the layer sizes and quirks that MobileSAM's
repository documents: no head, the last reduction keeps the size). Prompt encoder and mask decoder are those of SamModel
in transformers. It needs the extra [parity] and is no part of the package.
"""

import itertools

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from dtr1_jax.specialists.sam import weights
from dtr1_jax.specialists.sam.spec import MOBILE_SAM, SamSpec


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm."""

    def __init__(self, i: int, o: int, side: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.c = nn.Conv2d(i, o, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, i, h, w] -> [B, o, h / stride, w / stride]."""
        return self.bn(self.c(x))


class ConvBlock(nn.Module):
    """Wider by a 1x1 convolution, a depthwise one, back, and added to the input."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.conv1 = ConvNorm(width, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, width, h, w] -> the same shape."""
        return F.gelu(self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))) + x)


class Reduction(nn.Module):
    """To another width, and to a smaller map if the stride says so."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv1 = ConvNorm(i, o, 1)
        self.conv2 = ConvNorm(o, o, 3, stride, groups=o)
        self.conv3 = ConvNorm(o, o, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, i, h, w] -> [B, o, h / stride, w / stride]."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention inside a window, with a learned bias for each pair of distances."""

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        cells = list(itertools.product(range(window), range(window)))
        order: dict[tuple[int, int], int] = {}
        for (a, b), (c, d) in itertools.product(cells, cells):
            order.setdefault((abs(a - c), abs(b - d)), len(order))
        index = [[order[abs(a - c), abs(b - d)] for c, d in cells] for a, b in cells]
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, h, w, D] -> the same shape; maps are filled up with zeros to whole windows."""
        b, h, w, d = x.shape
        s = self.window
        if (h, w) != (s, s):
            rows, columns = -(-h // s), -(-w // s)
            x = F.pad(x, (0, 0, 0, columns * s - w, 0, rows * s - h))
            x = x.view(b, rows, s, columns, s, d).transpose(2, 3).reshape(-1, s * s, d)
            x = self._inside(x).view(b, rows, columns, s, s, d).transpose(2, 3)
            return x.reshape(b, rows * s, columns * s, d)[:, :h, :w]
        return self._inside(x.reshape(b, s * s, d)).view(b, h, w, d)

    def _inside(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        qkv = self.qkv(self.norm(x)).view(b, n, self.heads, 3, d // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(3))
        weight = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5 + self.attention_biases[:, self.index]).softmax(
            -1
        )
        return self.proj((weight @ v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    """A layer norm and two linear layers."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] -> the same shape."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class AttentionBlock(nn.Module):
    """Attention in windows, a depthwise convolution, an MLP."""

    def __init__(self, width: int, heads: int, window: int, hidden: int):
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, width, h, w] -> the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = self.local_conv((x + self.attn(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """The blocks of one stage and the reduction behind them."""

    def __init__(self, blocks: list[nn.Module], reduction: nn.Module | None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if reduction is not None:
            self.downsample = reduction

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, i, h, w] -> [B, o, h / stride, w / stride]."""
        for block in self.blocks:
            x = block(x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class Norm2d(nn.Module):
    """A layer norm over the channels of [B, c, h, w]."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, c, h, w] -> the same shape."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return x.permute(0, 3, 1, 2)


class TinyVit(nn.Module):
    """The picture encoder, with the names of mobile_sam.pt below image_encoder."""

    def __init__(self, sizes: SamSpec):
        super().__init__()
        t, first = sizes.encoder, sizes.encoder.dims[0]
        self.patch_embed = nn.Module()
        self.patch_embed.seq = nn.Sequential(
            ConvNorm(3, first // 2, 3, 2), nn.GELU(), ConvNorm(first // 2, first, 3, 2)
        )
        self.layers = nn.ModuleList()
        for i, width in enumerate(t.dims):
            hidden = t.expansion * width
            block = lambda i=i, w=width, h=hidden: (  # noqa: E731
                AttentionBlock(w, t.heads[i], t.windows[i], h) if i else ConvBlock(w, h)
            )
            reduction = Reduction(width, t.dims[i + 1], t.strides[i]) if i < len(t.strides) else None
            self.layers.append(Stage([block() for _ in range(t.depths[i])], reduction))
        self.neck = nn.Sequential(
            nn.Conv2d(t.dims[-1], sizes.width, 1, bias=False), Norm2d(sizes.width),
            nn.Conv2d(sizes.width, sizes.width, 3, padding=1, bias=False), Norm2d(sizes.width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised pictures [B, 3, image, image] -> [B, width, grid, grid]."""
        x = self.patch_embed.seq(x)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


def sam_config(sizes: SamSpec) -> transformers.SamConfig:
    """A configuration of transformers whose prompt encoder and mask decoder have the sizes of `sizes`."""
    patch = sizes.image // sizes.grid
    return transformers.SamConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": sizes.image,
            "patch_size": patch, "output_channels": sizes.width, "num_pos_feats": sizes.width // 2,
        },
        prompt_encoder_config={
            "hidden_size": sizes.width, "image_size": sizes.image, "patch_size": patch,
            "mask_input_channels": sizes.mask_channels,
        },
        mask_decoder_config={
            "hidden_size": sizes.width, "mlp_dim": sizes.mlp, "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads, "attention_downsample_rate": sizes.downsample,
            "num_multimask_outputs": sizes.masks, "iou_head_depth": sizes.iou_layers,
            "iou_head_hidden_dim": sizes.iou_width, "layer_norm_eps": sizes.eps,
        },
    )  # fmt: skip


class MobileSam(nn.Module):
    """Encoder and decoder; `load` fills them."""

    def __init__(self, sizes: SamSpec = MOBILE_SAM):
        super().__init__()
        self.sizes = sizes
        self.encoder = TinyVit(sizes).eval()
        self.sam = transformers.SamModel(sam_config(sizes)).eval()

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Takes the tensors of mobile_sam.pt, by their names there. Raises RuntimeError if they do not fit."""
        own = {n: x for n, x in tensors.items() if not n.startswith("image_encoder.")}
        own = {weights.mobile_name(n): x for n, x in own.items()}
        own["prompt_encoder.shared_embedding.positional_embedding"] = own["shared_image_embedding.positional_embedding"]
        missing, unexpected = self.sam.load_state_dict(own, strict=False)
        if unexpected or any(not n.startswith("vision_encoder.") for n in missing):
            raise RuntimeError(f"missing {missing}, unexpected {unexpected}")
        encoder = {n.removeprefix("image_encoder."): x for n, x in tensors.items() if n.startswith("image_encoder.")}
        self.encoder.load_state_dict({n: x for n, x in encoder.items() if "head" not in n})

    @torch.no_grad()
    def embed(self, square: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """A picture uint8[image, image, 3], resized at the top left to rows x columns -> [1, width, grid, grid]."""
        mean, std = (torch.tensor(x) for x in (self.sizes.mean, self.sizes.std))
        x = (square[:rows, :columns].float() / 255 - mean) / std
        x = F.pad(x.permute(2, 0, 1), (0, self.sizes.image - columns, 0, self.sizes.image - rows))
        return self.encoder(x[None])

    @torch.no_grad()
    def segment(
        self,
        embedding: torch.Tensor,
        boxes: torch.Tensor | None = None,
        points: torch.Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [n, m, low, low] and expected IoU [n, m] of boxes [n, 4] or points [n, k, 2], pixels of the square."""
        out = self.sam(
            image_embeddings=embedding, input_boxes=None if boxes is None else boxes[None],
            input_points=None if points is None else points[None], multimask_output=multimask,
        )  # fmt: skip
        return out.pred_masks[0], out.iou_scores[0]

    def to_masks(self, logits: torch.Tensor, size: tuple[int, int], rows: int, columns: int) -> torch.Tensor:
        """Logits [n, low, low] -> bool[n, *size] of the picture that was resized to rows x columns."""
        side = (self.sizes.image,) * 2
        x = F.interpolate(logits[:, None], side, mode="bilinear", align_corners=False)[..., :rows, :columns]
        return F.interpolate(x, size, mode="bilinear", align_corners=False)[:, 0] > 0
