"""Autoencoders that are exact stay ordinary modules: weights, hooks, copies, offload, LoRA, autocast, compilation."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from tests.tilekit.exact._autoencoders import TWO, WAN, ZOO, Entry  # noqa: E402  # after what may be missing

import tilekit  # noqa: E402
from tilekit import BackendError, InputError, PlanError, TraceError  # noqa: E402
from tilekit.adapters import disable_exact_tiling, enable_exact_tiling  # noqa: E402

ROUNDING = 1e-5
KL = {**TWO, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
FRAMES = WAN | {"dim_mult": [1, 2], "temperal_downsample": [True]}  # the name of diffusers
MODELS = {
    "Wan 2.1": Entry("AutoencoderKLWan", FRAMES, (1, 4, 3, 6, 7), ()),
    "TAESD": ZOO["TAESD"],
    "KL": Entry("AutoencoderKL", KL, (1, 4, 11, 10), ()),
}


def latents(name: str = "KL", batch: int = 1) -> Any:
    return torch.randn((batch, *MODELS[name].latents[1:]), generator=torch.Generator().manual_seed(1))


def made(name: str = "KL", seed: int = 0) -> Any:
    return MODELS[name].make(seed).requires_grad_(False)


def agree(vae: Any, want: Any, z: Any = None, tolerance: float = ROUNDING) -> None:
    """See that an exact model decodes to what is wanted, and that it is exact: its decode is not the plain one."""
    got = vae.decode(latents() if z is None else z).sample
    assert got.shape == want.shape
    assert float((got - want).abs().max() / want.abs().max()) < tolerance


def switched(name: str = "KL", seed: int = 0) -> tuple[Any, Any]:
    """Give an exact model that has decoded once, and the same model plain."""
    vae, plain = made(name, seed), made(name, seed)
    enable_exact_tiling(vae)
    agree(vae, plain.decode(latents(name)).sample, latents(name))
    return vae, plain


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


# ---- weights ------------------------------------------------------------------------------------------------------
def assigned(vae: Any) -> None:
    vae.load_state_dict(made(seed=5).state_dict(), assign=True)


def loaded(vae: Any) -> None:
    vae.load_state_dict(made(seed=6).state_dict())


def one_parameter(vae: Any) -> None:
    vae.decoder.conv_norm_out.weight = torch.nn.Parameter(vae.decoder.conv_norm_out.weight * 1.5 + 0.1)


def one_module(vae: Any) -> None:
    torch.manual_seed(3)
    vae.decoder.up_blocks[1].resnets[0].conv1 = torch.nn.Conv2d(16, 8, 3, padding=1)


def another_kind_of_module(vae: Any) -> None:
    vae.decoder.mid_block.attentions[0] = torch.nn.Identity()
    vae.decoder.mid_block.attentions[0].forward = lambda x, temb=None: x


def in_place(vae: Any) -> None:
    for weight in vae.parameters():
        weight.mul_(1.1)


def a_hook_on_a_norm(vae: Any) -> None:
    vae.decoder.up_blocks[0].resnets[0].norm1.register_forward_hook(lambda module, args, out: out * 1.5)


def a_hook_on_a_block(vae: Any) -> None:
    vae.decoder.mid_block.register_forward_hook(lambda module, args, out: out + 0.5)


def a_hook_before_the_decoder(vae: Any) -> None:
    vae.decoder.register_forward_pre_hook(lambda module, args: (args[0] * 0.5, *args[1:]))


def a_patched_forward(vae: Any) -> None:
    before = vae.decoder.forward
    vae.decoder.forward = lambda *args, **kwargs: before(*args, **kwargs) * 2 + 1


@pytest.mark.parametrize("change", [assigned, loaded, one_parameter, one_module, another_kind_of_module, in_place])
def test_weights_are_read_when_they_are_used(change: Callable[[Any], None]) -> None:
    vae, plain = switched()
    change(vae)
    change(plain)
    agree(vae, plain.decode(latents()).sample)


@pytest.mark.parametrize("change", [a_hook_on_a_norm, a_hook_on_a_block, a_hook_before_the_decoder, a_patched_forward])
@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_and_patches_keep_their_effect(change: Callable[[Any], None], when: str) -> None:
    vae, plain = made(), made()
    before = plain.decode(latents()).sample
    change(plain)
    if when == "before":
        change(vae)
        enable_exact_tiling(vae)
    else:
        vae, _ = switched()
        change(vae)
    want = plain.decode(latents()).sample
    assert not torch.allclose(want, before, rtol=1e-2)
    agree(vae, want)


def test_functional_call_takes_the_weights_that_it_is_given() -> None:
    vae, plain = switched()
    others = dict(made(seed=7).named_parameters())

    class Decode(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch comes by importorskip
        def __init__(self, vae: Any) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, z: Any) -> Any:
            return self.vae.decode(z).sample

    given = {f"vae.{name}": value for name, value in others.items()}
    got, want = (torch.func.functional_call(Decode(model), given, (latents(),)) for model in (vae, plain))
    assert torch.allclose(got, want, atol=1e-4)
    agree(vae, plain.decode(latents()).sample)


def test_a_subclass_decodes_its_own_way() -> None:
    class Brighter(diffusers.AutoencoderKL):  # type: ignore[name-defined, misc]  # diffusers comes by importorskip
        def _decode(self, z: Any, return_dict: bool = True) -> Any:
            made = super()._decode(z, return_dict=False)[0] * 2 + 1
            return diffusers.models.autoencoders.vae.DecoderOutput(sample=made) if return_dict else (made,)

    vae = Brighter(**KL).eval()
    want = vae.decode(latents()).sample
    enable_exact_tiling(vae)
    agree(vae, want)


def test_enabling_in_init_does_not_break_from_pretrained(tmp_path: Any) -> None:
    class Always(diffusers.AutoencoderKL):  # type: ignore[name-defined, misc]  # diffusers comes by importorskip
        @diffusers.configuration_utils.register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
        def __init__(self, **config: Any) -> None:
            super().__init__(**{**KL, **config})
            enable_exact_tiling(self)

    plain = made()
    plain.save_pretrained(tmp_path)
    vae = Always.from_pretrained(tmp_path)
    agree(vae, plain.decode(latents()).sample)


# ---- copies -------------------------------------------------------------------------------------------------------
def by_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def by_torch_save(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle, by_torch_save])
def test_a_copy_decodes_with_its_own_weights(name: str, duplicate: Callable[[Any], Any]) -> None:
    vae, plain = switched(name)
    other, z = duplicate(vae), latents(name)
    other.load_state_dict(made(name, seed=8).state_dict())
    agree(other, made(name, seed=8).decode(z).sample, z)
    agree(vae, plain.decode(z).sample, z)
    del vae
    disable_exact_tiling(other)
    assert torch.equal(other.decode(z).sample, made(name, seed=8).decode(z).sample)


class _Pipeline(diffusers.DiffusionPipeline):  # type: ignore[name-defined, misc]  # diffusers comes by importorskip
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae)


def test_a_copied_pipeline_decodes_with_its_own_weights() -> None:
    pipe = _Pipeline(made())
    enable_exact_tiling(pipe)
    other = copy.deepcopy(pipe)
    other.vae.load_state_dict(made(seed=9).state_dict())
    agree(other.vae, made(seed=9).decode(latents()).sample)
    agree(pipe.vae, made().decode(latents()).sample)
    disable_exact_tiling(pipe)
    assert "_decode" not in vars(pipe.vae)
    assert "_decode" in vars(other.vae)


def test_what_is_saved_is_the_plain_model(tmp_path: Any) -> None:
    vae, plain = switched()
    vae.save_pretrained(tmp_path)
    again = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    assert torch.equal(again.decode(latents()).sample, plain.decode(latents()).sample)


def test_disabling_gives_back_what_was_there() -> None:
    for name in MODELS:
        vae = made(name)
        before = [dict(vars(module)) for module in vae.modules()]
        enable_exact_tiling(vae)
        enable_exact_tiling(vae, memory_bytes=2**40)  # again, with other numbers
        disable_exact_tiling(vae)
        assert [dict(vars(module)) for module in vae.modules()] == before
    vae = made()
    vae._decode = patched = lambda z, return_dict=True: vae.decoder(z * 2)
    enable_exact_tiling(vae)
    enable_exact_tiling(vae, memory_bytes=2**40)
    disable_exact_tiling(vae)
    disable_exact_tiling(vae)  # was not on
    assert vae._decode is patched


@pytest.mark.parametrize("name", MODELS)
def test_a_function_that_calls_an_exact_model_is_followed_as_with_the_plain_one(name: str) -> None:
    """Such as the stream of a decode whose model is exact already."""
    vae, plain = switched(name)
    z = latents(name)
    want = plain.decode(z).sample
    stream = tilekit.exact(lambda z: vae.decode(z).sample).stream(z)
    got = torch.cat([block for _, block in stream], 2)
    assert float((got - want).abs().max() / want.abs().max()) < ROUNDING


def test_switching_twice_keeps_the_second_budget() -> None:
    vae, plain = switched()
    enable_exact_tiling(vae, memory_bytes=2**30)
    agree(vae, plain.decode(latents()).sample)
    assert vae._decode.memory_bytes == 2**30


# ---- offload, adapters --------------------------------------------------------------------------------------------
def sequential(vae: Any, folder: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload(vae, execution_device=torch.device("cpu"))
    assert next(vae.parameters()).device.type == "meta"


def to_disk(vae: Any, folder: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.disk_offload(vae, folder, execution_device=torch.device("cpu"))


def whole(vae: Any, folder: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload_with_hook(vae, execution_device=torch.device("cpu"))


def groups(vae: Any, folder: Any) -> None:
    cpu = torch.device("cpu")
    diffusers.hooks.apply_group_offloading(vae, cpu, cpu, offload_type="leaf_level")


def groups_to_disk(vae: Any, folder: Any) -> None:
    cpu = torch.device("cpu")
    diffusers.hooks.apply_group_offloading(vae, cpu, cpu, offload_type="leaf_level", offload_to_disk_path=str(folder))


@pytest.mark.filterwarnings("ignore")  # of these libraries
@pytest.mark.parametrize("name", ["KL", "TAESD"])
@pytest.mark.parametrize("offload", [sequential, to_disk, whole, groups, groups_to_disk])
@pytest.mark.parametrize("when", ["before", "after"])
def test_offloaded_weights_are_found(name: str, offload: Any, when: str, tmp_path: Any) -> None:
    vae, z = made(name), latents(name)
    want = made(name).decode(z).sample
    if when == "before":
        enable_exact_tiling(vae)
        agree(vae, want, z)
    offload(vae, tmp_path)
    if when == "after":
        enable_exact_tiling(vae)
    agree(vae, want, z)


@pytest.mark.filterwarnings("ignore")
def test_layers_kept_in_8_bits_are_cast_as_they_are_when_called() -> None:
    vae, plain = made(), made()
    for model in (vae, plain):
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    enable_exact_tiling(vae)
    agree(vae, plain.decode(latents()).sample)


def test_a_lora_works_and_can_be_merged() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    vae, plain = switched()
    config = peft.LoraConfig(r=2, target_modules=["conv1", "to_q", "conv_in"], init_lora_weights=False)
    for model in (vae, plain):
        torch.manual_seed(4)
        peft.inject_adapter_in_model(config, model)
    want = plain.decode(latents()).sample
    assert not torch.allclose(want, made().decode(latents()).sample, rtol=1e-2)
    agree(vae, want)


# ---- autocast, compilation, dtypes, batches -----------------------------------------------------------------------
def test_autocast_works() -> None:
    vae, plain = switched()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want, got = plain.decode(latents()).sample, vae.decode(latents()).sample
    assert got.dtype == want.dtype
    exact = plain.decode(latents()).sample
    assert (got.float() - exact).abs().max() < 1.5 * (want.float() - exact).abs().max()
    agree(vae, exact)


def test_compiled_models_are_switched_and_not_compiled() -> None:
    plain = made()
    want = plain.decode(latents()).sample
    compiled = torch.compile(made(), backend="eager")
    enable_exact_tiling(compiled)
    agree(compiled, want)
    pipe = _Pipeline(made())
    pipe.vae.decoder = torch.compile(pipe.vae.decoder, backend="eager")
    enable_exact_tiling(pipe)
    agree(pipe.vae, want)
    vae = made()
    vae.decoder.compile(backend="eager")
    enable_exact_tiling(vae)
    agree(vae, want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_near_as_untiled(dtype: str) -> None:
    kind, exact = getattr(torch, dtype), made().decode(latents()).sample
    vae = made().to(kind)
    want = vae.decode(latents().to(kind)).sample
    enable_exact_tiling(vae)
    got = vae.decode(latents().to(kind)).sample
    assert got.dtype == kind
    assert (got.float() - exact).abs().max() < 1.5 * (want.float() - exact).abs().max()


def test_batches_and_slices_of_them() -> None:
    vae, plain = switched()
    z = latents(batch=2)
    agree(vae, plain.decode(z).sample, z)
    vae.enable_slicing()
    agree(vae, plain.decode(z).sample, z)
    assert isinstance(vae.decode(z, return_dict=False), tuple)


# ---- refusals -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory_bytes", [0, -1, 1.5, "2GB", True])
def test_wrong_budgets_are_refused_at_the_call(memory_bytes: Any) -> None:
    with pytest.raises(PlanError, match=r"memory_bytes: got .*, expected a positive number of bytes"):
        enable_exact_tiling(made(), memory_bytes=memory_bytes)


def test_a_budget_that_no_plan_meets_says_the_least() -> None:
    vae = made()
    enable_exact_tiling(vae, memory_bytes=10_000)
    with pytest.raises(PlanError, match=r"got 10000 .* the plan that needs least takes \d+"):
        vae.decode(latents())


@pytest.mark.parametrize(
    ("old", "text"),
    [
        ({"tile": 512}, "tile: got 512, but the sizes are chosen from memory_bytes now; leave it out"),
        ({"norm": "fast"}, "norm: got 'fast', but every norm is exact"),
        ({"offload": "disk"}, "offload: got 'disk', but what is kept is chosen from memory_bytes now"),
        ({"tiles": 3}, "unknown keyword 'tiles'; it takes memory_bytes and progress"),
    ],
)
def test_keywords_of_before_say_what_to_use_now(old: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError, match=text):
        enable_exact_tiling(made(), **old)
    enable_exact_tiling(made(), tile=None, norm="exact", offload=None)


def test_other_objects_are_refused() -> None:
    with pytest.raises(BackendError, match="got Linear, expected one with an autoencoder as its vae"):
        enable_exact_tiling(torch.nn.Linear(2, 2))


def test_nothing_is_switched_if_one_model_is_refused() -> None:
    pipe = _Pipeline(made())
    pipe.audio_vae = object.__new__(diffusers.AutoencoderRAE)
    torch.nn.Module.__init__(pipe.audio_vae)
    with pytest.raises(BackendError, match="AutoencoderRAE is not made exact"):
        enable_exact_tiling(pipe)
    assert "_decode" not in vars(pipe.vae)


def test_a_gradient_is_not_lost_without_a_word() -> None:
    vae = made()
    enable_exact_tiling(vae)
    with torch.enable_grad(), pytest.raises(TraceError, match=r"requires a gradient.*disable_exact_tiling"):
        vae.decode(latents().requires_grad_())
    vae.decode(latents())
    with torch.enable_grad(), pytest.raises(TraceError, match=r"requires a gradient.*disable_exact_tiling"):
        vae.decode(latents().requires_grad_())


@pytest.mark.parametrize("z", [None, [1, 2], np.zeros((1, 4, 8, 8), np.float32)], ids=["None", "list", "NumPy"])
def test_what_is_no_tensor_is_refused(z: Any) -> None:
    vae = made()
    enable_exact_tiling(vae)
    with pytest.raises(BackendError, match=r"decode: got \w+, expected a torch\.Tensor"):
        vae.decode(z)


def test_nan_is_refused() -> None:
    vae, z = made(), latents()
    enable_exact_tiling(vae)
    z[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        vae.decode(z)


def test_randomness_is_refused_by_name() -> None:
    vae = made()
    vae.decoder.mid_block.resnets[0].dropout = torch.nn.Dropout(0.5)
    vae.train()
    enable_exact_tiling(vae)
    with pytest.raises(TraceError, match=r"draws random numbers .*call .eval\(\).*disable_exact_tiling"):
        vae.decode(latents())


def test_a_wrong_result_is_refused_by_the_check_of_a_small_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from tilekit._exact.kernels import _torch

    kernels = _torch.TorchKernels
    run = kernels.run

    def wrong(self: Any, *args: Any) -> Any:
        return run(self, *args) * 1.001

    monkeypatch.setattr(kernels, "run", wrong)
    vae = made()
    enable_exact_tiling(vae)
    with pytest.raises(TraceError, match=r"for a small input of shape \(1, 4, 8, 8\) the result differs"):
        vae.decode(latents())


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    vae = made()
    enable_exact_tiling(vae, progress=lambda done, total: told.append((done, total)))
    vae.decode(latents())
    assert told[-1][0] == told[-1][1]
