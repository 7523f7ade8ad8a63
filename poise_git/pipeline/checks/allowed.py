"""The names that an algorithm may use: pure functions of tensors, a few builtins, the names of `.rollouts`.

The lists make a clear message possible; the sandbox provides the safety. They include most functions that map tensors
to tensors, and none that reaches files, processes, devices, global settings or the interpreter.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUILTINS = _names(
    """
    abs all any ArithmeticError AssertionError bool dict divmod enumerate filter float frozenset getattr hasattr
    IndexError int isinstance iter KeyError len list map max min next NotImplementedError pow range reversed
    round RuntimeError set slice sorted str sum tuple TypeError ValueError ZeroDivisionError zip
    """
)

# Functions of torch that are also methods of a tensor.
_BOTH = _names(
    """
    abs absolute acos acosh add addcdiv addcmul all allclose amax amin aminmax angle any arccos arccosh arcsin
    arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere asin asinh atan atan2 atanh baddbmm bernoulli
    bincount bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm
    broadcast_to ceil chunk clamp clamp_max clamp_min clip clone copysign corrcoef cos cosh count_nonzero cov
    cross cummax cummin cumprod cumsum deg2rad detach diag diag_embed diagflat diagonal diff digamma dist div
    divide dot dsplit eq equal erf erfc erfinv exp exp2 expm1 fix flatten flip fliplr flipud float_power floor
    floor_divide fmax fmin fmod frac frexp gather gcd ge geqrf greater greater_equal gt heaviside histc hsplit
    hypot index_add index_copy index_fill index_select inner inverse is_complex is_floating_point is_nonzero
    is_same_size isclose isfinite isinf isnan isneginf isposinf kron kthvalue lcm ldexp le lerp less less_equal
    lgamma log log10 log1p log2 log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not
    logical_or logical_xor logit logsumexp lt masked_fill masked_scatter masked_select matmul matrix_exp
    matrix_power max maximum mean median min minimum mm mode moveaxis movedim msort mul multinomial multiply mv
    mvlgamma nan_to_num nanmean nanmedian nanquantile nansum narrow ne neg negative nextafter nonzero norm
    not_equal numel outer permute pinverse polygamma positive pow prelu prod quantile rad2deg ravel reciprocal
    relu remainder renorm reshape roll rot90 round rsqrt scatter scatter_add scatter_reduce select
    select_scatter sigmoid sign signbit sin sinc sinh slice_scatter slogdet softmax sort split sqrt square
    squeeze std sub subtract sum swapaxes swapdims take take_along_dim tan tanh tensor_split tile topk trace
    transpose tril triu true_divide trunc unbind unflatten unique unique_consecutive unsqueeze var vdot vsplit
    where xlogy
    """
)
# Functions of torch only.
_TORCH = _names(
    """
    arange as_tensor atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors bucketize
    cartesian_prod cat cdist column_stack combinations complex concat concatenate conj cosine_similarity
    cumulative_trapezoid dstack e einsum empty empty_like enable_grad eye finfo full full_like hstack iinfo imag
    inf is_grad_enabled is_tensor isin linspace logspace meshgrid nan newaxis no_grad ones ones_like pi
    promote_types real repeat_interleave result_type row_stack scalar_tensor searchsorted stack std_mean tensor
    tensordot trapezoid trapz tril_indices triu_indices vander var_mean vstack zeros zeros_like
    """
)
# The check `deterministic` decides whether random numbers make an algorithm irreproducible.
_RANDOM = _names(
    """
    normal rand rand_like randint randint_like randn randn_like randperm
    """
)
_TYPES = _names(
    """
    bfloat16 bool complex128 complex64 device double dtype float float16 float32 float64 half int int16 int32
    int64 int8 long short Size Tensor uint8
    """
)
# Methods of a tensor only.
_TENSOR = _names(
    """
    bfloat16 bool contiguous device dim double dtype element_size expand expand_as float H half index_put int
    is_cuda is_leaf item itemsize long mH mT nbytes ndim ndimension nelement new_empty new_full new_ones
    new_tensor new_zeros repeat repeat_interleave requires_grad requires_grad_ reshape_as shape short size
    stride sum_to_size T t to tolist type_as unfold view view_as
    """
)
# Methods that work in place if `_` follows.
_IN_PLACE = _names(
    """
    abs add addcdiv addcmul clamp clamp_max clamp_min copy cumprod cumsum div exp expm1 fill floor index_add
    index_copy index_fill lerp log log1p logical_and logical_not logical_or masked_fill masked_scatter mul neg
    pow reciprocal relu round rsqrt scatter scatter_add scatter_reduce sigmoid sign sqrt square squeeze sub tanh
    transpose tril triu trunc unsqueeze zero
    """
)
_FUNCTIONAL = _names(
    """
    avg_pool1d binary_cross_entropy binary_cross_entropy_with_logits celu conv1d cosine_embedding_loss
    cosine_similarity cross_entropy elu gaussian_nll_loss gelu glu hardsigmoid hardswish hardtanh huber_loss
    kl_div l1_loss leaky_relu log_softmax logsigmoid margin_ranking_loss max_pool1d mse_loss nll_loss normalize
    one_hot pad pairwise_distance poisson_nll_loss relu relu6 selu sigmoid silu smooth_l1_loss soft_margin_loss
    softmax softmin softplus softshrink softsign tanh tanhshrink threshold unfold
    """
)
_LINALG = _names(
    """
    cholesky cond cross det diagonal eigh eigvalsh inv lstsq matmul matrix_exp matrix_norm matrix_power
    matrix_rank multi_dot norm pinv qr slogdet solve solve_triangular svd svdvals vander vecdot vector_norm
    """
)
_SPECIAL = _names(
    """
    digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammainc gammaincc gammaln i0 i0e i1 i1e log1p log_ndtr
    log_softmax logit logsumexp multigammaln ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy zeta
    """
)
_MATH = _names(
    """
    acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2
    expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp
    lgamma log log10 log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan tanh tau
    trunc ulp
    """
)
_TYPING = _names(
    """
    Any Callable ClassVar Dict Final FrozenSet Iterable Iterator List Literal Mapping Optional Sequence Set
    Tuple Union
    """
)
_COLLECTIONS = _names(
    """
    Callable Collection Hashable Iterable Iterator Mapping MutableMapping Sequence Set Sized
    """
)
_ROLLOUTS = _names(
    """
    aggregate_loss LEVEL_TOLERANCE masked_mean response_mean Rollouts to_tokens
    """
)
_ROLLOUTS_MEMBERS = _names(
    """
    correct from_rewards group group_max group_mean group_min group_size group_std group_sum length mask
    pass_rate score valid
    """
)
# Methods of lists, tuples, dictionaries, sets, texts and torch's results, without any that format a text.
_VALUES = _names(
    """
    add append copy count difference discard endswith eps extend get index indices insert intersection issubset
    issuperset items join keys lower lstrip pop remove replace reverse rstrip setdefault smallest_normal sort
    split startswith strip tiny type union update upper values
    """
)
# Fields of verl's configuration that an estimator or a loss may use.
_CONFIGURATION = _names(
    """
    batch_num_tokens clip_ratio clip_ratio_c clip_ratio_high clip_ratio_low dp_size entropy_coeff gamma
    global_batch_info global_batch_size kl_loss_coef kl_loss_type lam loss_agg_mode loss_scale_factor
    norm_adv_by_std_in_grpo policy_loss tau_neg tau_pos
    """
)

# Module -> names that may be used, as `module.name` or by `from module import name`.
MODULES: Mapping[str, frozenset[str]] = {
    "torch": _BOTH | _TORCH | _RANDOM | _TYPES | {"autograd", "linalg", "nn", "special"},
    "torch.nn": frozenset(("functional",)),
    "torch.nn.functional": _FUNCTIONAL,
    "torch.linalg": _LINALG,
    "torch.special": _SPECIAL,
    "torch.autograd": frozenset(("grad",)),
    "math": _MATH,
    "typing": _TYPING,
    "collections.abc": _COLLECTIONS,
    "__future__": frozenset(("annotations",)),
    ".rollouts": _ROLLOUTS,
}
# Names that may follow a dot after anything but a module.
MEMBERS = _BOTH | _TENSOR | _ROLLOUTS_MEMBERS | _VALUES | _CONFIGURATION | {f"{name}_" for name in _IN_PLACE}


def describe() -> str:
    """The rules in a few lines of Markdown, for people and for models that write algorithms."""
    rules = (
        "Imports: `torch` and `math`; names from `torch.nn.functional`, `typing`, `collections.abc` and `.rollouts` "
        f"({', '.join(sorted(MODULES['.rollouts']))}).",
        "Module level: a docstring, imports, functions, and constants that cannot change: numbers, texts, and tuples "
        "of them. No list, dictionary, set, lambda or computed value. Function defaults must be such constants too.",
        "Torch functions that map tensors to tensors, also as methods of a tensor: elementwise mathematics, "
        "reductions, comparisons, indexing, sorting, scatter and gather, cumulative and factory functions, `einsum`, "
        "`torch.linalg`, `torch.special`, `torch.nn.functional`, `torch.autograd.grad`. No access to files, "
        "devices, threads, settings or the interpreter.",
        f"Builtins: {', '.join(sorted(name for name in BUILTINS if name[0].islower()))}, and exceptions to raise.",
        "`getattr` and `hasattr` take the name as a literal text, and only a name that is allowed after a dot.",
        "No assignment to an attribute, no `global`, `nonlocal`, `del`, `class`, `try`, `match`, `async` or `yield`, "
        "and no decorator except `@torch.no_grad()`. An algorithm has no memory and hides no errors.",
        "Take the device and dtype of new tensors from an input: `device=log_prob.device`.",
    )
    return "\n".join(textwrap.fill(f"- {rule}", 100, subsequent_indent="  ", break_on_hyphens=False) for rule in rules)
