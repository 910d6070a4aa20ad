"""A script for a GPU, as anybody writes it: batches by worker processes in pinned memory, mixed precision, a scaler."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    batch = int(sys.argv[1])
    images, classes = torch.zeros(3 * batch, 3, 64, 64), torch.zeros(3 * batch, dtype=torch.long)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 62 * 62, 10))
    net.to("cuda")
    optimizer, scaler = torch.optim.Adam(net.parameters()), torch.amp.GradScaler("cuda")
    for image, class_ in DataLoader(TensorDataset(images, classes), batch, num_workers=2, pin_memory=True):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = nn.functional.cross_entropy(net(image.to("cuda", non_blocking=True)), class_.to("cuda"))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    print(f"{torch.cuda.get_device_name()}: {torch.cuda.max_memory_reserved() / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
