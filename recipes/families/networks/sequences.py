"""Networks for sequences: LSTM, GRU, temporal convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recurrent(nn.Module):
    """(N, T, features) -> (N, classes) from the last hidden state."""

    def __init__(self, cell: nn.Module, hidden: int, classes: int) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(hidden, classes)

    def forward(self, sequence: Tensor) -> Tensor:
        states, _ = self.cell(sequence)
        return self.head(states[:, -1])


def lstm(features: int = 9, hidden: int = 32, classes: int = 6) -> nn.Module:
    """Hochreiter and Schmidhuber 1997, one layer."""
    return Recurrent(nn.LSTM(features, hidden, batch_first=True), hidden, classes)


def gru(features: int = 20, hidden: int = 48, classes: int = 10) -> nn.Module:
    """Cho et al. 2014, one layer."""
    return Recurrent(nn.GRU(features, hidden, batch_first=True), hidden, classes)


class CausalBlock(nn.Module):
    """Two dilated convolutions that never look ahead, and a shortcut (Bai et al. 2018, section 3)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.conv1 = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, dilation=dilation)
        self.shortcut = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(F.pad(x, (self.reach, 0))))
        y = F.relu(self.conv2(F.pad(y, (self.reach, 0))))
        return F.relu(y + self.shortcut(x))


class TemporalCNN(nn.Module):
    """(N, channels, T) -> (N, horizon): the next values of the last channel."""

    def __init__(self, channels: int, width: int, levels: int, horizon: int) -> None:
        super().__init__()
        sizes = [channels] + [width] * levels
        self.blocks = nn.Sequential(*(CausalBlock(sizes[i], sizes[i + 1], 2**i) for i in range(levels)))
        self.head = nn.Linear(width, horizon)

    def forward(self, series: Tensor) -> Tensor:
        return series[:, -1, -1:] + self.head(self.blocks(series)[:, :, -1])


def temporal_cnn(channels: int = 7, width: int = 24, levels: int = 4, horizon: int = 24) -> nn.Module:
    """The forecast is a change from the last value seen, so an untrained network predicts persistence."""
    return TemporalCNN(channels, width, levels, horizon)


class Graph(nn.Module):
    """Graph convolutions (Kipf and Welling 2017, eq. 2): each layer averages over neighbours, then mixes features.

    features (N, nodes, inputs), adjacency (N, nodes, nodes) normalized by degree -> (N, classes) for node 0.
    """

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, classes)

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        hidden = F.relu(torch.matmul(adjacency, self.first(features)))
        return torch.matmul(adjacency, self.second(hidden))[:, 0]


def graph(inputs: int = 1433, hidden: int = 32, classes: int = 7) -> nn.Module:
    """Two layers: a node sees neighbours of neighbours."""
    return Graph(inputs, hidden, classes)
