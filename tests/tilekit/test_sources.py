"""What is decoded and encoded: arrays that are never written to, sources read in parts, and kinds that are refused."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilekit as tk
from tilekit.testing import Library

PLAIN = tk.Geometry("plain", (tk.Axis("frames", 2, tk.Causal(4)), tk.Axis("width", 3, tk.Linear(2))))
TILING = tk.Tiling(frames=(12, 4), width=(8, 4))
Numbers = np.ndarray[Any, Any]


def numbers(*shape: int) -> Numbers:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def decode(z: Any) -> Any:
    """Every latent as its cells, the first as one frame."""
    return np.repeat(np.repeat(z, [1, *[4] * (z.shape[2] - 1)], axis=2), 2, axis=3)


def encode(x: Any) -> Any:
    return x[:, :, ::4, ::2].astype(np.float32)


class Recorded:
    """A source that can be sliced and nothing else, and remembers how much was read of it."""

    def __init__(self, values: Numbers) -> None:
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.cells = 0

    def __getitem__(self, region: tuple[slice, ...]) -> Numbers:
        part = self._values[region]
        self.cells += part.size
        return part


def of_memmap(values: Numbers, folder: Path) -> Any:
    made = np.memmap(folder / "values", values.dtype, "w+", shape=values.shape)
    made[...] = values
    made.flush()
    return np.memmap(folder / "values", values.dtype, "r", shape=values.shape)


def of_zarr(values: Numbers, folder: Path) -> Any:
    zarr = pytest.importorskip("zarr")
    made = zarr.open_array(str(folder / "values.zarr"), mode="w", shape=values.shape, dtype=values.dtype)
    made[...] = values
    return zarr.open_array(str(folder / "values.zarr"), mode="r")


def of_h5py(values: Numbers, folder: Path) -> Any:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "values.h5", "w") as file:
        file["values"] = values
    return h5py.File(folder / "values.h5", "r")["values"]


def of_dask(values: Numbers, folder: Path) -> Any:
    return pytest.importorskip("dask.array").from_array(values, chunks=3)


def of_slices(values: Numbers, folder: Path) -> Any:
    return Recorded(values)


@pytest.mark.parametrize("make", [of_memmap, of_zarr, of_h5py, of_dask, of_slices])
@pytest.mark.parametrize("tile_batch_size", [1, 3])
def test_sources_that_are_read_in_parts_give_what_arrays_give(make: Any, tile_batch_size: int, tmp_path: Path) -> None:
    z, clip = numbers(1, 3, 7, 9), numbers(1, 3, 25, 18)
    options: dict[str, Any] = {"geometry": PLAIN, "tile_batch_size": tile_batch_size}
    want = tk.decode_tiled(decode, z, TILING, **options)
    got = tk.decode_tiled(decode, make(z, tmp_path), TILING, **options)
    np.testing.assert_array_equal(got, want)
    blocks = [block for _, block in tk.stream_tiled(decode, make(z, tmp_path), TILING, **options)]
    np.testing.assert_allclose(np.concatenate(blocks, axis=2), want, atol=1e-6)  # tiles are added in another order
    got = tk.encode_tiled(encode, make(clip, tmp_path), TILING, **options)
    np.testing.assert_array_equal(got, tk.encode_tiled(encode, clip, TILING, **options))


def test_tiles_are_read_when_they_are_needed_and_once() -> None:
    z = numbers(1, 3, 13, 9)
    source = Recorded(z)
    stream = tk.stream_tiled(decode, source, TILING, geometry=PLAIN)
    assert source.cells == 0
    next(stream)
    tiles = tk.plan(z.shape, TILING, geometry=PLAIN).tiles
    assert source.cells == 3 * sum(int(np.prod(tile.shape)) for tile in tiles if tile.index[0] == 0)
    assert sum(1 for _ in stream) > 0
    assert source.cells == 3 * sum(int(np.prod(tile.shape)) for tile in tiles)


def test_the_function_of_a_lazy_source_may_return_arrays_of_any_library(xp: Library) -> None:
    z = numbers(1, 3, 7, 9)
    got = tk.decode_tiled(lambda tile: xp.array(decode(tile)), Recorded(z), TILING, geometry=PLAIN)
    assert type(got) is type(xp.array(z))
    want = tk.decode_tiled(decode, z, TILING, geometry=PLAIN)
    np.testing.assert_allclose(xp.numpy(got), want, atol=1e-6)


def test_nan_in_a_lazy_source_is_refused_with_the_tile() -> None:
    z = numbers(1, 3, 7, 9)
    z[0, 0, 6, 8] = np.nan
    with pytest.raises(tk.InputError, match=r"tile \(2, 3\): the input has NaN in frames 3 to 6, width 6 to 8"):
        tk.decode_tiled(decode, Recorded(z), TILING, geometry=PLAIN)


def test_a_decoder_that_writes_into_its_input_changes_no_latents(xp: Library) -> None:
    z = numbers(1, 3, 7, 9)
    latents = xp.array(z)

    def writing(tile: Any) -> Any:
        out = xp.array(decode(xp.numpy(tile)))
        with suppress(TypeError, ValueError):  # arrays that cannot be written
            tile[...] = tile * 0
        return out

    for tiling in (TILING, None):
        got = tk.decode_tiled(writing, latents, tiling, geometry=PLAIN)
        np.testing.assert_array_equal(xp.numpy(latents), z)
        np.testing.assert_allclose(xp.numpy(got), decode(z), atol=1e-6)


def test_one_tile_is_what_the_function_returned() -> None:
    z = numbers(1, 3, 2, 4)
    made: list[Numbers] = []

    def keeping(tile: Numbers) -> Numbers:
        made.append(decode(tile))
        return made[-1]

    assert tk.decode_tiled(keeping, z, geometry=PLAIN) is made[0]


@pytest.mark.parametrize("tile_batch_size", [1, 4])
def test_nan_of_a_decoder_is_refused_with_the_tile(xp: Library, tile_batch_size: int) -> None:
    z = np.ones((2, 3, 7, 9), np.float32)
    z[1, 2, 5, 7] = 1000.0

    def overflowing(tile: Any) -> Any:
        values = decode(xp.numpy(tile))
        return xp.array(np.where(values > 900, np.nan, values).astype(np.float32))

    seen = r"tile \(2, [23]\): decode returned NaN; in float16, try bfloat16 or float32"
    with pytest.raises(tk.InputError, match=seen):
        tk.decode_tiled(overflowing, xp.array(z), TILING, geometry=PLAIN, tile_batch_size=tile_batch_size)
    with pytest.raises(tk.InputError, match="encode returned NaN"):
        tk.encode_tiled(
            lambda x: xp.array(encode(xp.numpy(x)) * np.float32(np.nan)),
            xp.array(numbers(1, 3, 25, 18)),
            TILING,
            geometry=PLAIN,
        )


def test_cropped_tiles_may_hold_integers(xp: Library) -> None:
    z = np.arange(63, dtype=np.float32).reshape(1, 1, 7, 9)
    got = tk.decode_tiled(
        lambda tile: xp.array(decode(xp.numpy(tile)).astype(np.int32)),
        xp.array(z),
        TILING,
        geometry=PLAIN,
        blend="crop",
        halo={"frames": (1, 0), "width": (1, 1)},
    )
    np.testing.assert_array_equal(xp.numpy(got), decode(z).astype(np.int32))


def of_torch(kind: str) -> Any:
    torch = pytest.importorskip("torch")
    z = torch.ones(1, 3, 7, 9)
    return {"sparse": z.to_sparse, "meta": lambda: z.to("meta")}[kind]()


def of_sparse() -> Any:
    return pytest.importorskip("sparse").COO(numbers(1, 3, 7, 9))


class Sparse(Recorded):
    """As matrices of scipy are: shape, dtype and slices, and a way to make them dense."""

    def todense(self) -> Numbers:
        return self._values


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: np.ma.masked_array(numbers(1, 3, 7, 9), mask=False),
            r"masked array: its mask would be lost; give x.fi",
        ),
        (lambda: of_torch("sparse"), r"a sparse tensor \(torch.sparse_coo\); give a dense one: x.to_dense\(\)"),
        (lambda: of_torch("meta"), "a tensor on the device 'meta', which has no numbers; load it first"),
        (of_sparse, "sparse"),
        (lambda: Sparse(numbers(1, 3, 7, 9)), r"Sparse: it is sparse; give a dense array, such as .todense\(\)"),
        (lambda: [[1.0]], "expected an array of one of the libraries"),
    ],
)
def test_arrays_without_plain_numbers_are_refused(make: Any, text: str) -> None:
    array = make()
    for run in (tk.decode_tiled, tk.encode_tiled, tk.stream_tiled):
        with pytest.raises(tk.BackendError, match=text):
            run(decode, array, geometry=PLAIN)


def test_transforms_of_torch_are_refused() -> None:
    torch = pytest.importorskip("torch")

    def run(z: Any) -> Any:
        return tk.decode_tiled(torch.nn.Upsample(scale_factor=(1, 2)), z, geometry=flat)

    flat = tk.Geometry("flat", (tk.Axis("frames", 2, tk.Linear(1)), tk.Axis("width", 3, tk.Linear(2))))
    z = torch.ones(2, 1, 3, 7, 9)
    with pytest.raises(tk.BackendError, match=r"a tensor inside torch\.vmap"):
        torch.vmap(run)(z)
    with warnings.catch_warnings(), torch.autograd.forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of torch.jit
        dual = torch.autograd.forward_ad.make_dual(z[0], z[0])
        with pytest.raises(tk.BackendError, match="a tensor with forward derivatives"):
            run(dual)


def test_tracing_by_jax_is_refused() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(tk.BackendError, match=r"a traced array of jax\.jit, vmap or grad: it has no numbers yet"):
        jax.jit(lambda z: tk.decode_tiled(decode, z, TILING, geometry=PLAIN))(jax.numpy.ones((1, 3, 7, 9)))


@pytest.mark.parametrize("tiling", [None, TILING], ids=["one tile", "tiles"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_a_callback_writes_into_its_frames_is_in_no_others(
    xp: Library, tiling: tk.Tiling | None, dtype: str
) -> None:
    """Frames are a view of the result, or copies where the library has no views."""
    if dtype == "float16" and xp.name not in {"torch", "mlx"}:
        pytest.skip(f"{xp.name} does not take half precision")
    z, fn = xp.array(numbers(1, 3, 7, 9), dtype), xp.wrap(decode, dtype)
    want = xp.numpy(tk.decode_tiled(fn, z, tiling, geometry=PLAIN))
    seen, ends, written = [], [], []

    def spoil(frames: Any, start: int) -> None:
        seen.append(np.array(xp.numpy(frames)))
        ends.append(start + frames.shape[2])
        with suppress(ValueError, TypeError):  # of libraries whose arrays cannot be written to
            frames[...] = 77
            written.append(start)

    got = xp.numpy(tk.decode_tiled(fn, z, tiling, geometry=PLAIN, on_frames_ready=spoil))
    np.testing.assert_array_equal(np.concatenate(seen, axis=2), want)
    assert ends[-1] == want.shape[2]
    assert ((got == want) | (got == 77)).all()
    if xp.name in {"numpy", "torch"} and len(written) == len(seen):
        assert (got == 77).all(), "as it is documented"
