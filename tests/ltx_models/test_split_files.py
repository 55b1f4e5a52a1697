"""The files of LTX-2.5 as they are published: what each holds, how a folder of them is found, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.ltx_models.split_files import write_split

from ltx_models import (
    load_audio_decoder,
    load_audio_encoder,
    load_connectors,
    load_duration_head,
    load_transformer,
    load_upsampler,
    load_video_decoder,
    load_video_encoder,
    load_vocoder,
)
from ltx_models.lora import check_lora
from ltx_models.nn import Backend
from ltx_models.nn import backend as get_backend
from ltx_models.pipelines.settings import version_of

LOADERS: dict[str, tuple[Callable[..., Any], ...]] = {
    "transformer": (load_transformer,),
    "video_vae": (load_video_encoder, load_video_decoder),
    "video_vae_conv": (load_video_encoder, load_video_decoder),
    "audio_vae": (load_audio_encoder, load_audio_decoder, load_vocoder),
    "upsampler": (load_upsampler,),
    "temporal_upsampler": (load_upsampler,),
    "duration_head": (load_duration_head,),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    return write_split(tmp_path_factory.mktemp("split"), get_backend("torch"))


def test_each_file_holds_its_networks(nn: Backend, files: dict[str, Path]) -> None:
    for name, loaders in LOADERS.items():
        for load in loaders:
            load(files[name], backend=nn.name, dtype="float32")
    load_connectors(files["transformer"], projections=files["text_encoder"], backend=nn.name)
    assert version_of(files["transformer"]) == (2, 5, 0)
    check_lora(files["distilled_lora"], files["transformer"])


def test_the_files_are_the_same_from_either_framework(nn: Backend, files: dict[str, Path], tmp_path: Path) -> None:
    for name, path in write_split(tmp_path, nn).items():
        if name != "folder":
            assert path.read_bytes() == files[name].read_bytes(), name
