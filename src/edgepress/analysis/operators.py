"""Families of ATen operators that treat channels alike."""

import torch

aten = torch.ops.aten

CONVOLUTIONS = (
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
)  # fmt: skip
TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)

# One output element from the input elements at the same (broadcast) place; names of overload packets.
_ELEMENTWISE = (
    "add add_ sub sub_ rsub mul mul_ div div_ pow maximum minimum fmod remainder where lerp atan2 addcmul addcdiv "
    "relu relu_ relu6 relu6_ leaky_relu leaky_relu_ elu elu_ selu selu_ celu gelu silu silu_ mish mish_ hardswish "
    "hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ sigmoid sigmoid_ tanh tanh_ softplus softsign log_sigmoid "
    "hardshrink softshrink threshold clamp clamp_ clamp_min clamp_max clip exp log log2 log1p expm1 sqrt rsqrt "
    "reciprocal abs neg sign sin cos tan erf floor ceil round trunc square logit "
    "dropout dropout_ feature_dropout alpha_dropout clone contiguous detach detach_ alias lift_fresh_copy to _to_copy "
    "expand_as type_as masked_fill masked_fill_ nan_to_num bitwise_not bitwise_and bitwise_or "
    "logical_not logical_and logical_or eq ne lt le gt ge isnan isinf "
    "zeros_like ones_like empty_like rand_like randn_like full_like"
)
# Reductions whose result over fewer channels keeps its meaning.
_REDUCTIONS = "mean sum amax amin var std logsumexp linalg_vector_norm norm"
_POOLS = (
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices "
    "max_pool1d_with_indices upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d "
    "upsample_nearest1d upsample_linear1d upsample_nearest3d upsample_trilinear3d reflection_pad1d reflection_pad2d "
    "replication_pad1d replication_pad2d"
)
_ALONG = "softmax log_softmax _softmax _log_softmax cumsum cumprod"


def _overloads(names: str) -> tuple[object, ...]:
    packets = [getattr(aten, name) for name in names.split() if hasattr(aten, name)]
    return tuple(getattr(packet, overload) for packet in packets for overload in packet.overloads())


ELEMENTWISE = _overloads(_ELEMENTWISE)
REDUCTIONS = _overloads(_REDUCTIONS)
POOLS = _overloads(_POOLS)
ALONG = _overloads(_ALONG)
