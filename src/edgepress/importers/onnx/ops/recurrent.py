"""LSTM, GRU and RNN.

Where torch's own recurrences compute the same they are used: one `lstm`/`gru`/`rnn` node, gates reordered. Peepholes,
clipping, other activations, coupled gates, ragged lengths and the GRU that resets before its product are unrolled over
time, exactly as the specification writes them.

Shapes, ONNX: X (T, B, I), W (D, gates H, I), R (D, gates H, H), B (D, 2 gates H), states (D, B, H), Y (T, D, B, H).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import Numbers, Unsupported, is_symbolic

# Position of torch's gates among ONNX's: LSTM (i, o, f, c) -> (i, f, g, o); GRU (z, r, h) -> (r, z, n).
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}

MAX_UNROLLED = 1024

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "relu": lambda x, a, b: F.relu(x),
    "affine": lambda x, a, b: (1.0 if a is None else a) * x + (0.0 if b is None else b),
    "leakyrelu": lambda x, a, b: F.leaky_relu(x, 0.01 if a is None else a),
    "thresholdedrelu": lambda x, a, b: F.threshold(x, 1.0 if a is None else a, 0.0),
    "scaledtanh": lambda x, a, b: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x),
    "hardsigmoid": lambda x, a, b: torch.clamp((0.2 if a is None else a) * x + (0.5 if b is None else b), 0.0, 1.0),
    "elu": lambda x, a, b: F.elu(x, 1.0 if a is None else a),
    "softsign": lambda x, a, b: F.softsign(x),
    "softplus": lambda x, a, b: F.softplus(x),
}


@dataclass(frozen=True)
class Cell:
    """What a recurrent node says beside its tensors."""

    kind: str
    direction: str = "forward"
    activations: tuple[str, ...] = ()
    activation_alpha: tuple[float, ...] = ()
    activation_beta: tuple[float, ...] = ()
    clip: float = 0.0
    input_forget: bool = False
    linear_before_reset: bool = False

    @property
    def directions(self) -> int:
        """1, or 2 for bidirectional."""
        return 2 if self.direction == "bidirectional" else 1

    def names(self) -> tuple[str, ...]:
        """Activation names of all directions, lower case."""
        given = tuple(name.lower() for name in self.activations)
        return given or ACTIVATIONS[self.kind] * self.directions

    def functions(self, direction: int) -> list[Callable[[Tensor], Tensor]]:
        """The activation functions of one direction."""
        count = len(ACTIVATIONS[self.kind])
        wanted = range(direction * count, (direction + 1) * count)
        return [
            _activation(self.names()[i], _at(self.activation_alpha, i), _at(self.activation_beta, i)) for i in wanted
        ]

    def torch_has_it(self) -> bool:
        """True if torch's recurrence computes the same."""
        standard = self.names() == ACTIVATIONS[self.kind] * self.directions or self._is_relu_rnn()
        resets = self.kind != "GRU" or self.linear_before_reset
        return standard and resets and not self.clip and not self.input_forget

    def _is_relu_rnn(self) -> bool:
        return self.kind == "RNN" and set(self.names()) == {"relu"}


def _at(values: tuple[float, ...], index: int) -> float | None:
    return values[index] if index < len(values) else None


def _activation(name: str, alpha: float | None, beta: float | None) -> Callable[[Tensor], Tensor]:
    function = FUNCTIONS.get(name)
    if function is None:
        raise Unsupported("a recurrent layer", found=f"activation {name!r}", expected=", ".join(FUNCTIONS))
    return lambda x: function(x, alpha, beta)


def cell_of(kind: str, attributes: dict[str, Any]) -> Cell:
    """The description of a node's recurrence."""
    return Cell(
        kind,
        attributes.get("direction", "forward").lower(),
        tuple(attributes.get("activations", ())),
        tuple(attributes.get("activation_alpha", ())),
        tuple(attributes.get("activation_beta", ())),
        float(attributes.get("clip", 0.0)),
        bool(attributes.get("input_forget", 0)),
        bool(attributes.get("linear_before_reset", 0)),
    )


def torch_weights(kind: str, w: Tensor, r: Tensor, b: Tensor | None) -> list[Tensor]:
    """ONNX weights in torch's order: for each direction w_ih, w_hh and, if there is a bias, b_ih, b_hh."""
    flat = []
    for direction in range(w.shape[0]):
        flat += [reorder(kind, w[direction]), reorder(kind, r[direction])]
        if b is not None:
            flat += [reorder(kind, half) for half in b[direction].chunk(2)]
    return flat


def reorder(kind: str, gates: Tensor) -> Tensor:
    """Rows of all gates in torch's order."""
    parts = gates.chunk(len(GATES[kind]))
    return torch.cat([parts[i] for i in GATES[kind]]) if len(parts) > 1 else gates


def recurrent(kind: str) -> Callable[..., Any]:
    """The operator of one kind, on ONNX's inputs."""

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | Numbers | None = None,
        h0: Tensor | None = None,
        c0: Tensor | None = None,
        peepholes: Tensor | None = None,
        *,
        layout: int = 0,
        hidden_size: int = 0,
        output_sequence: int = 0,
        **attributes: Any,
    ) -> Any:
        cell = cell_of(kind, attributes)
        x, h0, c0 = _time_first(x, h0, c0, layout)
        if cell.torch_has_it() and peepholes is None and are_full(lengths, x.shape[0]):
            result = fused(cell, x, h0, c0, torch_weights(kind, w, r, b))
        else:
            result = unrolled(cell, x, (w, r, b, peepholes), lengths, h0, c0)
        return _with_layout(result, layout)

    return run


def fused_layer(kind: str) -> Callable[..., Any]:
    """As `recurrent`, on weights that were reordered at import: x, lengths, h0, c0, then torch's flat weights."""

    def run(
        x: Tensor, lengths: Any, h0: Tensor | None, c0: Tensor | None, *flat: Tensor, layout: int = 0, **attributes: Any
    ) -> Any:
        x, h0, c0 = _time_first(x, h0, c0, layout)
        if not are_full(lengths, x.shape[0]):
            raise Unsupported("a recurrent layer", found="sequences of different lengths", expected="equal ones")
        return _with_layout(fused(cell_of(kind, attributes), x, h0, c0, list(flat)), layout)

    return run


def _time_first(x: Tensor, h0: Tensor | None, c0: Tensor | None, layout: int) -> tuple[Any, Any, Any]:
    if not layout:
        return x, h0, c0
    return tuple(None if value is None else value.transpose(0, 1) for value in (x, h0, c0))  # type: ignore[return-value]


def _with_layout(result: tuple[Tensor, ...], layout: int) -> tuple[Tensor, ...]:
    """Y (T, D, B, H) -> (B, T, D, H) and states (D, B, H) -> (B, D, H) with layout 1."""
    if not layout:
        return result
    y, *states = result
    return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in states))


def are_full(lengths: Any, steps: Any) -> bool:
    """True if every sequence is known to last the whole time."""
    if lengths is None:
        return True
    if isinstance(lengths, Tensor):
        return not torch.compiler.is_exporting() and bool((lengths == steps).all())
    return not is_symbolic(steps) and bool((lengths == steps).all())


def initial(state: Tensor | None, x: Tensor, directions: int, hidden: int) -> Tensor:
    """The given state (of batch 1, for the whole batch), or zeros: (D, B, H)."""
    if state is None:
        return torch.zeros(directions, x.shape[1], hidden, dtype=x.dtype)
    return state.expand(directions, x.shape[1], hidden)


def fused(cell: Cell, x: Tensor, h0: Tensor | None, c0: Tensor | None, flat: list[Tensor]) -> tuple[Tensor, ...]:
    """torch's recurrence; a lone reverse direction runs forwards on the flipped sequence."""
    hidden, both = flat[1].shape[1], cell.direction == "bidirectional"
    has_bias = len(flat) == 4 * cell.directions
    x = x.flip(0) if cell.direction == "reverse" else x
    h = initial(h0, x, cell.directions, hidden)
    if cell.kind == "LSTM":
        state = [h, initial(c0, x, cell.directions, hidden)]
        y, *states = torch.lstm(x, state, flat, has_bias, 1, 0.0, False, both, False)
    else:
        function = {"GRU": torch.gru, "RNN": torch.rnn_relu if "relu" in cell.names() else torch.rnn_tanh}[cell.kind]
        y, *states = function(x, h, flat, has_bias, 1, 0.0, False, both, False)
    y = y.flip(0) if cell.direction == "reverse" else y
    split = y.reshape(x.shape[0], x.shape[1], cell.directions, hidden).transpose(1, 2)
    return (split, *states)


def unrolled(
    cell: Cell, x: Tensor, weights: tuple[Any, ...], lengths: Any, h0: Tensor | None, c0: Tensor | None
) -> tuple[Tensor, ...]:
    """Step by step, each direction on its own."""
    w, r, b, peepholes = weights
    if is_symbolic(x.shape[0]) or x.shape[0] > MAX_UNROLLED:
        raise Unsupported(
            f"a {cell.kind} that torch does not have must be unrolled over time",
            found=f"{x.shape[0]} steps",
            expected=f"a fixed number of steps, at most {MAX_UNROLLED}",
            fix="give the sequence a fixed length (shapes=), or export with linear_before_reset=1",
        )
    hidden = r.shape[2]
    h = initial(h0, x, w.shape[0], hidden)
    c = initial(c0, x, w.shape[0], hidden)
    held = None if lengths is None else torch.as_tensor(lengths)
    runs = []
    for d in range(w.shape[0]):
        bias = torch.zeros(2 * w.shape[1], dtype=x.dtype) if b is None else b[d]
        step = STEPS[cell.kind](cell, d, w[d], r[d], bias, None if peepholes is None else peepholes[d])
        backwards = cell.direction == "reverse" or d == 1
        runs.append(_run(step, x, h[d], c[d], held, backwards))
    return tuple(torch.stack(parts, 1 if i == 0 else 0) for i, parts in enumerate(zip(*runs, strict=True)))


def _run(step: Any, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor | None, backwards: bool) -> tuple[Tensor, ...]:
    """All steps of one direction: Y (T, B, H) and the last states; past its length a sequence stands still."""
    steps = range(x.shape[0])
    outputs: list[Tensor] = []
    for t in reversed(steps) if backwards else steps:
        new_h, new_c = step(x[t], h, c)
        if lengths is not None:
            alive = (t < lengths)[:, None]
            outputs.append(torch.where(alive, new_h, 0.0))
            h, c = torch.where(alive, new_h, h), torch.where(alive, new_c, c)
        else:
            outputs.append(new_h)
            h, c = new_h, new_c
    return torch.stack(outputs[::-1] if backwards else outputs), h, c


def _clipped(x: Tensor, limit: float) -> Tensor:
    return torch.clamp(x, -limit, limit) if limit else x


def _lstm_step(cell: Cell, d: int, w: Tensor, r: Tensor, b: Tensor, peepholes: Tensor | None) -> Any:
    """i, o, f, c: Ct = f Ct-1 + i g; Ht = o h(Ct), with peepholes from Ct-1 (i, f) and Ct (o)."""
    f, g, h_of = cell.functions(d)
    wb, rb = b.chunk(2)
    p_i, p_o, p_f = peepholes.chunk(3) if peepholes is not None else (0.0, 0.0, 0.0)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, o, forget, new = (F.linear(x, w, wb) + F.linear(h, r, rb)).chunk(4, dim=1)
        i = f(_clipped(i + p_i * c, cell.clip))
        forget = 1 - i if cell.input_forget else f(_clipped(forget + p_f * c, cell.clip))
        c = forget * c + i * g(_clipped(new, cell.clip))
        return f(_clipped(o + p_o * c, cell.clip)) * h_of(c), c

    return step


def _gru_step(cell: Cell, d: int, w: Tensor, r: Tensor, b: Tensor, peepholes: Tensor | None) -> Any:
    """z, r, h: Ht = (1 - z) h' + z Ht-1; the reset gate acts before or after the product."""
    f, g = cell.functions(d)
    wb, rb = b.chunk(2)
    rows = r.shape[1]

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        from_x = F.linear(x, w, wb)
        from_h = F.linear(h, r[: 2 * rows], rb[: 2 * rows])
        z, reset = f(_clipped(from_x[:, : 2 * rows] + from_h, cell.clip)).chunk(2, dim=1)
        if cell.linear_before_reset:
            recurrence = reset * F.linear(h, r[2 * rows :], rb[2 * rows :])
        else:
            recurrence = F.linear(reset * h, r[2 * rows :], rb[2 * rows :])
        new = g(_clipped(from_x[:, 2 * rows :] + recurrence, cell.clip))
        return (1 - z) * new + z * h, c

    return step


def _rnn_step(cell: Cell, d: int, w: Tensor, r: Tensor, b: Tensor, peepholes: Tensor | None) -> Any:
    """Ht = f(W x + R h + b)."""
    (f,) = cell.functions(d)
    wb, rb = b.chunk(2)
    return lambda x, h, c: (f(_clipped(F.linear(x, w, wb) + F.linear(h, r, rb), cell.clip)), c)


STEPS = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}

FLAT_WEIGHTS = tuple(range(4, 12))

OPERATORS: Operators = {
    **{kind: Operator(recurrent(kind), known=(4,), weights=(1, 2, 3, 7)) for kind in GATES},
    **{f"edgepress::{kind}": Operator(fused_layer(kind), known=(1,), weights=FLAT_WEIGHTS) for kind in GATES},
}
