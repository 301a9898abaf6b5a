"""The training step of step.rs in PyTorch: one step per line of standard input, printing the loss.

Arguments: --precision f32|bf16|tf32 (bf16 is autocast; tf32 only means something on a GPU),
--layout channels_last|contiguous, --pairs N, --threads N, --device cpu|cuda:0.
"""

import argparse
import sys

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, k, stride, ci, co):
        super().__init__()
        self.conv = nn.Conv2d(ci, co, k, stride, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(co)

    def forward(self, x, residual=None):
        y = self.bn(self.conv(x))
        if residual is not None:
            y = y + residual
        return F.relu(y, inplace=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleList(
            [
                Layer(3, 2, 3, 16),
                Layer(3, 2, 16, 32),
                Layer(3, 1, 32, 32),
                Layer(3, 2, 32, 64),
                Layer(3, 1, 64, 64),
                Layer(3, 1, 64, 64),
                Layer(3, 2, 64, 128),
                Layer(3, 1, 128, 128),
                Layer(3, 1, 128, 128),
            ]
        )
        self.neck = Layer(1, 1, 128, 96)
        self.correlation_bn = nn.BatchNorm2d(64)
        self.head = nn.Sequential(Layer(1, 1, 160, 96), Layer(3, 1, 96, 96), Layer(3, 1, 96, 96))
        self.score = nn.Conv2d(96, 1, 1)
        self.ltrb = nn.Conv2d(96, 4, 1)
        self.presence = nn.Linear(192, 1)

    def features(self, x):
        for i, layer in enumerate(self.stem):
            if i in (4, 7):
                skip = x
                x = layer(x)
            elif i in (5, 8):
                x = layer(x, skip)
            else:
                x = layer(x)
        return self.neck(x)

    def loss(self, template, search):
        template, search = self.features(template), self.features(search)
        n, c, h, w = search.shape
        cells = template.flatten(2).transpose(1, 2)
        correlation = cells @ search.flatten(2) * c**-0.5
        correlation = self.correlation_bn(correlation.view(n, -1, h, w))
        x = self.head(torch.cat([correlation, search], 1))
        pooled = torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)
        outputs = self.score(x), self.ltrb(x), self.presence(pooled)
        return sum(y.float().square().mean() for y in outputs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16", "tf32"])
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "contiguous"])
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    net = Net().to(device=device, memory_format=layout)
    template = torch.randn(args.pairs, 3, 128, 128).to(device).contiguous(memory_format=layout)
    search = torch.randn(args.pairs, 3, 256, 256).to(device).contiguous(memory_format=layout)
    for _ in sys.stdin:
        net.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
            loss = net.loss(template, search)
        loss.backward()
        # On a GPU this waits for the loss only; the gradients have to be done as well.
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        print(loss.item(), flush=True)


if __name__ == "__main__":
    main()
