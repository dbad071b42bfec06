"""Functions of torch, grouped by their effect on activations."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

# Functions by name, for every way to call them: as an operator, a method, a function or an aten operator.
ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
SUBTRACTIONS = {"sub", "sub_", "__sub__", "__isub__", "subtract", "subtract_"}
REVERSED_SUBTRACTIONS = {"rsub", "__rsub__"}
FUSED_ADDITIONS = {"addcmul", "addcmul_"}
INTERPOLATIONS = {"lerp", "lerp_"}
# Add something that they compute themselves to their first operand.
HIDDEN_ADDITIONS = {
    *("addmm", "addmm_", "addbmm", "addbmm_", "baddbmm", "baddbmm_", "addcdiv", "addcdiv_", "addmv", "addr"),
    *("index_add", "index_add_", "scatter_add", "scatter_add_", "_foreach_add", "_foreach_add_", "logaddexp"),
}
SOFTMAX = {"softmax", "softmin", "log_softmax", "_safe_softmax"}
# Join activations, reshape the joined ones, and take parts out again.
CONCATENATED_ALONG = {
    "vstack": 0,
    "row_stack": 0,
    "hstack": 1,
    "column_stack": 1,
    "dstack": 2,
}  # for activations of three dimensions or more
CONCATENATIONS = {"cat", "concat", "concatenate", *CONCATENATED_ALONG}
STACKS = {"stack"}
SPLITS = {"chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split"}
RESHAPES = {"view", "reshape", "unflatten"}
SLICES = SPLITS | {"__getitem__", "narrow"}
SUMS = {"sum", "mean"}
PRODUCTS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "multiply_"}
QUOTIENTS = {"div", "div_", "__truediv__", "__itruediv__", "divide", "divide_", "true_divide", "true_divide_"}
CONVOLUTIONS = {
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolution",
}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
MATRIX_PRODUCTS = {"matmul", "__matmul__", "mm", "bmm", "baddbmm", "einsum", "tensordot"}
LINEAR = {
    *RECURRENT,
    *MATRIX_PRODUCTS,
    "linear",
    "bilinear",
    "addmm",
    "embedding",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
}
# Use the shape of an activation, but none of its values.
LIKE = {"zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"}
LIKE |= {"new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}
# Numbers of dimensions of the activations whose statistics a plot shows: sequences [N, T, C] and maps [N, C, H, W].
RANKS = (3, 4)
RESAMPLING = {"avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d", "interpolate"}
# Functions that return the values they are given: a scaled branch remains a scaled branch.
COPIES = {"contiguous", "to", "type", "type_as", "float", "double", "half", "bfloat16", "clone", "detach", "dropout"}


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among `values`, and in lists and tuples among them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def reduced_dims(values: tuple[Any, ...], ndim: int) -> list[int]:
    """The dimensions that a sum or mean is taken over; all if none are given."""
    given = next((value for value in values[1:] if isinstance(value, int | list | tuple)), tuple(range(ndim)))
    dims = [given] if isinstance(given, int) else list(given)
    return [dim % ndim for dim in dims if isinstance(dim, int) and not isinstance(dim, bool)]


def scalar_of_second(name: str, values: tuple[Any, ...]) -> float:
    """The factor of a function's second summand: alpha of an addition, the weight of `lerp`."""
    if name not in ADDITIONS | SUBTRACTIONS | INTERPOLATIONS:
        return 1.0
    return next((float(value) for value in values[2:] if isinstance(value, int | float)), 1.0)
