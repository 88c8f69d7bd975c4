"""All translations from ATen to ONNX in one table."""

from collections.abc import Mapping

from torch.fx import Node

from edgepress.exporters.onnx_counted import COUNTED
from edgepress.exporters.onnx_dynamic import DYNAMIC, is_dynamic
from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated
from edgepress.exporters.onnx_layers import LAYERS
from edgepress.exporters.onnx_logic import LOGIC
from edgepress.exporters.onnx_math import MATH
from edgepress.exporters.onnx_ops import TRANSLATIONS, Translation
from edgepress.exporters.onnx_qdq import QDQ
from edgepress.exporters.onnx_recurrent import RECURRENT, starts_recurrences_at_zero
from edgepress.exporters.onnx_select import SELECT
from edgepress.ir.text import op_name

TABLE: Mapping[str, Translation] = {**TRANSLATIONS, **QDQ, **LOGIC, **RECURRENT, **MATH, **SELECT, **LAYERS, **COUNTED}
"""ATen operator -> translation."""


def translate(builder: GraphBuilder, node: Node) -> None:
    """Emit `node`.

    Raises:
        NotTranslated: no translation for the operator or this form of it.
    """
    if starts_recurrences_at_zero(node):
        return
    rule = (DYNAMIC if is_dynamic(builder, node) else TABLE).get(op_name(node))
    if rule is None:
        raise NotTranslated(op_name(node))
    out = builder.fresh(node.name)
    builder.names[node] = out
    rule(builder, node, out)
