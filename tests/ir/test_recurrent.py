"""Shapes of recurrent layers on fake tensors: those of the layers themselves, at once."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from edgepress.ir.capture import capture
from edgepress.ir.edit import Editor
from edgepress.ir.recurrent import GATES, recurrent_shapes

LAYERS = {
    "lstm": (nn.LSTM, {}),
    "lstm-projected": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "rnn-tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
}
FORMS = [
    {},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_shapes_are_those_of_the_layer(kind, form):
    make, extra = LAYERS[kind]
    layer = make(4, 5, **extra, **form)
    x = torch.randn(3, 2, 4)
    expected = layer(x)
    with recurrent_shapes(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = layer(mode.from_tensor(x))
    assert [t.shape for t in _flat(found)] == [t.shape for t in _flat(expected)]


def _flat(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


class Spotter(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


def test_a_long_gru_with_a_free_batch_is_captured_as_one_node_and_runs():
    model, x = Spotter().eval(), torch.randn(2, 2000, 4)
    program = capture(model, (x,))
    assert [n.target for n in program.nodes if n.target in GATES] == [torch.ops.aten.gru.input]
    batch = torch.randn(3, 2000, 4)
    torch.testing.assert_close(program.module()(batch), model(batch))


def test_time_may_stay_free():
    model = Spotter().eval()
    program = capture(model, (torch.randn(2, 6, 4),), dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},))
    x = torch.randn(5, 11, 4)
    torch.testing.assert_close(program.module()(x), model(x))


def test_weights_that_do_not_fit_are_noticed():
    program = capture(Spotter().eval(), (torch.randn(2, 6, 4),))
    editor = Editor(program)
    name = next(n for n in editor.state if n.endswith("weight_ih_l0"))
    editor.set_tensor(name, torch.zeros(15, 3))
    with pytest.raises(ValueError, match="input weight 0 has shape"):
        editor.finish()


def test_nothing_stays_changed():
    before = {op: dict(op.py_kernels) for op in GATES}
    with pytest.raises(RuntimeError), recurrent_shapes():
        raise RuntimeError
    assert {op: dict(op.py_kernels) for op in GATES} == before
