"""What an algorithm may use: pure functions of tensors, a few builtins, the names of `.rollouts`.

The lists serve a good message, not safety, which is the sandbox's. They are generous for functions that map tensors to
tensors, and hold nothing that reaches files, processes, devices, global settings or the interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping

BUILTINS = frozenset(
    (
        "abs all any bool dict divmod enumerate filter float frozenset getattr hasattr int isinstance iter len list map "
        "max min next pow range reversed round set slice sorted str sum tuple zip "
        "ArithmeticError AssertionError IndexError KeyError NotImplementedError RuntimeError TypeError ValueError "
        "ZeroDivisionError"
    ).split()
)

# The same under `torch.` and as a method of a tensor.
_BOTH = (
    "abs absolute acos acosh add addcdiv addcmul all allclose amax amin aminmax angle any arccos arccosh arcsin arcsinh "
    "arctan arctan2 arctanh argmax argmin argsort argwhere asin asinh atan atan2 atanh baddbmm bincount bitwise_and "
    "bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm broadcast_to ceil chunk "
    "clamp clamp_max clamp_min clip clone copysign corrcoef cos cosh count_nonzero cov cross cummax cummin cumprod "
    "cumsum deg2rad detach diag diag_embed diagflat diagonal diff digamma dist div divide dot dsplit eq equal erf erfc "
    "erfinv exp exp2 expm1 fix flatten flip fliplr flipud float_power floor floor_divide fmax fmin fmod frac frexp "
    "gather gcd ge geqrf greater greater_equal gt heaviside histc hsplit hypot index_add index_copy index_fill "
    "index_select inner inverse is_complex is_floating_point is_nonzero is_same_size isclose isfinite isinf isnan "
    "isneginf isposinf kron kthvalue lcm ldexp le lerp less less_equal lgamma log log10 log1p log2 log_softmax "
    "logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logsumexp lt "
    "masked_fill masked_scatter masked_select matmul matrix_exp matrix_power max maximum mean median min minimum mm mode "
    "moveaxis movedim msort mul multiply multinomial mv mvlgamma nan_to_num nanmean nanmedian nanquantile nansum narrow "
    "ne neg negative nextafter nonzero norm not_equal numel outer permute pinverse polygamma positive pow prelu prod "
    "quantile rad2deg ravel reciprocal relu remainder renorm reshape roll rot90 round rsqrt scatter scatter_add "
    "scatter_reduce select select_scatter sigmoid sign signbit sin sinc sinh slice_scatter slogdet softmax "
    "sort split sqrt square squeeze std sub subtract sum swapaxes swapdims take take_along_dim tan tanh tensor_split "
    "tile topk trace transpose tril triu true_divide trunc unbind unflatten unique unique_consecutive unsqueeze "
    "var vdot vsplit where xlogy bernoulli"
).split()
_TYPES = (
    "Size Tensor bfloat16 bool complex128 complex64 device double dtype float float16 float32 float64 half int int16 "
    "int32 int64 int8 long short uint8"
).split()
_IN_PLACE = frozenset(
    (
        "abs add addcdiv addcmul clamp clamp_max clamp_min copy cumprod cumsum div exp expm1 fill floor index_add "
        "index_copy index_fill lerp log log1p logical_and logical_not logical_or masked_fill masked_scatter mul neg pow "
        "reciprocal relu round rsqrt scatter scatter_add scatter_reduce sigmoid sign sqrt square squeeze sub tanh "
        "transpose tril triu trunc unsqueeze zero"
    ).split()
)
# Of a tensor alone.
_TENSOR = (
    "T H mT contiguous device dim dtype element_size expand expand_as float double half bfloat16 int long "
    "short bool type_as item tolist itemsize is_leaf mH nbytes ndim ndimension nelement new_empty new_full new_ones "
    "new_tensor new_zeros requires_grad requires_grad_ repeat repeat_interleave reshape_as scatter_reduce shape size "
    "stride sum_to_size to t unfold view view_as is_cuda index_put"
).split()
_FACTORIES = (
    "bucketize isin searchsorted vander "
    # Whether drawing makes it irreproducible is for the check `deterministic` to say.
    "arange as_tensor atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors cartesian_prod cat "
    "cdist column_stack combinations complex concat concatenate conj cosine_similarity cumulative_trapezoid dstack "
    "einsum empty empty_like eye finfo full full_like hstack iinfo is_grad_enabled is_tensor linspace logspace meshgrid "
    "normal ones ones_like rand rand_like randint randint_like randn randn_like randperm real imag repeat_interleave "
    "result_type promote_types row_stack scalar_tensor softmax stack std_mean tensor tensordot trapezoid trapz "
    "tril_indices triu_indices var_mean vstack zeros zeros_like e inf nan pi newaxis no_grad enable_grad"
).split()
_FUNCTIONAL = (
    "avg_pool1d binary_cross_entropy binary_cross_entropy_with_logits celu conv1d cosine_embedding_loss "
    "cosine_similarity cross_entropy elu gelu glu hardsigmoid hardswish hardtanh huber_loss kl_div l1_loss leaky_relu "
    "log_softmax logsigmoid margin_ranking_loss max_pool1d mse_loss nll_loss normalize one_hot pad pairwise_distance "
    "poisson_nll_loss gaussian_nll_loss relu relu6 selu sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin "
    "softplus softshrink softsign tanh tanhshrink threshold unfold"
).split()
_LINALG = (
    "cholesky cond cross det diagonal eigh eigvalsh inv lstsq matmul matrix_exp matrix_norm matrix_power matrix_rank "
    "multi_dot norm pinv qr slogdet solve solve_triangular svd svdvals vander vecdot vector_norm"
).split()
_SPECIAL = (
    "digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammainc gammaincc gammaln i0 i0e i1 i1e log1p log_ndtr "
    "log_softmax logit logsumexp multigammaln ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy zeta"
).split()
_MATH = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2 expm1 fabs "
    "factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma log log10 "
    "log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt tan tanh tau trunc ulp"
).split()
_TYPING = (
    "Any Callable ClassVar Dict Final FrozenSet Iterable Iterator List Literal Mapping Optional Sequence Set "
    "Tuple Union"
).split()
_COLLECTIONS = "Callable Collection Hashable Iterable Iterator Mapping MutableMapping Sequence Set Sized".split()
_ROLLOUTS = "LEVEL_TOLERANCE Rollouts aggregate_loss masked_mean response_mean to_tokens".split()
_ROLLOUTS_MEMBERS = (
    "correct from_rewards group group_max group_mean group_min group_size group_std group_sum length mask pass_rate "
    "score valid"
).split()
# Of lists, tuples, dictionaries, sets, texts and what torch returns; nothing that formats by a text.
_VALUES = (
    "add append copy count difference discard endswith eps extend get index indices insert intersection issubset "
    "issuperset items join keys lower lstrip pop remove replace reverse rstrip setdefault smallest_normal sort split "
    "startswith strip tiny type union update upper values"
).split()
# What verl's configuration of algorithm and actor holds that a loss or an estimator may ask for.
_CONFIGURATION = (
    "clip_ratio clip_ratio_c clip_ratio_high clip_ratio_low entropy_coeff gamma global_batch_info kl_loss_coef "
    "kl_loss_type lam loss_agg_mode loss_scale_factor norm_adv_by_std_in_grpo policy_loss tau_neg tau_pos "
    "batch_num_tokens dp_size global_batch_size"
).split()


def _names(*lists: list[str]) -> frozenset[str]:
    return frozenset(name for names in lists for name in names)


# Module -> what may be used of it, as `module.name` or by `from module import name`.
MODULES: Mapping[str, frozenset[str]] = {
    "torch": _names(_BOTH, _TYPES, _FACTORIES, ["autograd", "linalg", "nn", "special"]),
    "torch.nn": frozenset(("functional",)),
    "torch.nn.functional": _names(_FUNCTIONAL),
    "torch.linalg": _names(_LINALG),
    "torch.special": _names(_SPECIAL),
    "torch.autograd": frozenset(("grad",)),
    "math": _names(_MATH),
    "typing": _names(_TYPING),
    "collections.abc": _names(_COLLECTIONS),
    "__future__": frozenset(("annotations",)),
    ".rollouts": _names(_ROLLOUTS),
}
# What may follow a dot behind anything but a module.
MEMBERS = _names(_BOTH, _TENSOR, _ROLLOUTS_MEMBERS, _VALUES, _CONFIGURATION) | {f"{name}_" for name in _IN_PLACE}


def describe() -> str:
    """The rules in a few lines, for people and for models that write algorithms."""
    return (
        "- Imports: `torch`, `math`, and by name from `torch.nn.functional`, `typing`, `collections.abc` and "
        f"`.rollouts` ({', '.join(sorted(MODULES['.rollouts']))}).\n"
        "- Module level: a docstring, imports, functions, and constants that cannot change: numbers, texts, tuples of "
        "them. No list, dictionary or set, no lambda, no computed value, no decorator but `@torch.no_grad()`.\n"
        "- Defaults of functions are such constants too.\n"
        "- Functions of torch that map tensors to tensors: elementwise mathematics, reductions, comparisons, indexing, "
        "sorting, scatter and gather, cumulative and factory functions, `einsum`, `torch.linalg`, `torch.special`, "
        "`torch.nn.functional`, `torch.autograd.grad`, and the same as methods of a tensor. Nothing that reaches "
        "files, devices, threads, settings or the interpreter.\n"
        f"- Builtins: {', '.join(sorted(name for name in BUILTINS if name[0].islower()))}, and errors to raise.\n"
        "- `getattr` and `hasattr` take the name as a literal text, and a name that could stand behind a dot.\n"
        "- No assignment to an attribute, no `global`, `nonlocal`, `del`, `class`, `try`, `match`, `async` or `yield`: "
        "an algorithm has no memory, and what goes wrong in it must be seen.\n"
        "- New tensors take device and dtype from an input, such as `device=log_prob.device`.\n"
    )
