"""SpeechT5HifiGan in tiles of time, equal to the plain call."""

from __future__ import annotations

from math import prod
from typing import Any

from tilekit._errors import PlanError
from tilekit._progress import Progress
from tilekit.adapters._autoencoder import no_gradients, refuse
from tilekit.backends import Array
from tilekit.backends.kinds import check_same_kind, empty_like
from tilekit.norms import QueuePlan
from tilekit.norms._modes import Modes


def hifigan(vocoder: Any, *, tile: int) -> TiledVocoder:
    """
    Turn long mel spectrograms into sound, in tiles of time.

    The vocoder is followed as `tilekit.exact` follows functions. It has no norm, so it goes piece by piece from end to
    end, makes nothing twice, and the result equals that of the plain call.

    Parameters
    ----------
    vocoder : SpeechT5HifiGan
        The class of transformers, which AudioLDM and AudioLDM2 use.
    tile : int
        The most mel frames at once.

    Returns
    -------
    TiledVocoder
        Called as the vocoder is.

    Raises
    ------
    BackendError
        If `vocoder` is of another class.
    PlanError
        If `tile` is not a positive integer.
    """
    if "SpeechT5HifiGan" not in {kind.__name__ for kind in type(vocoder).__mro__}:
        refuse(vocoder, "vocoder", "a SpeechT5HifiGan")
    if type(tile) is not int or tile < 1:
        msg = f"tile: got {tile!r}, expected a positive number of mel frames"
        raise PlanError(msg)
    return TiledVocoder(vocoder, tile)


class TiledVocoder:
    """
    A vocoder that runs in tiles; made by `hifigan`.

    Parameters
    ----------
    vocoder : SpeechT5HifiGan
        The network.
    tile : int
        Largest tile in mel frames.
    """

    def __init__(self, vocoder: Any, tile: int) -> None:
        self.vocoder, self.tile = vocoder, tile
        self._modes = Modes(vocoder, (1,), ("time",), 2)
        self._cells = tile * prod(int(up.stride[0]) for up in vocoder.upsampler)

    def plan(self, frames: int) -> QueuePlan:
        """
        Plan the tiles of a spectrogram, with the expected peak memory.

        Parameters
        ----------
        frames : int
            Mel frames.

        Returns
        -------
        QueuePlan
            Printable.
        """
        x = empty_like(self.vocoder.conv_pre.bias, (1, frames, self.vocoder.conv_pre.in_channels))
        return self._modes.plan(x, self._cells, "exact", None)

    def __call__(self, spectrogram: Array, *, progress: Progress = None) -> Array:
        """
        Turn a spectrogram into sound.

        Parameters
        ----------
        spectrogram : array, shape (B, T, mel) or (T, mel)
            Logarithmic mel spectrogram.
        progress : bool, callable or None
            True shows a bar; a callable gets (done, total). Raise an error in it to cancel.

        Returns
        -------
        array, shape (B, N) or (N,)
            The waveform, between -1 and 1.

        Raises
        ------
        PlanError
            If the shape does not fit.
        InputError
            If NaN or infinity occurs; the text names the layer and the cells.
        """
        bins = self.vocoder.conv_pre.in_channels
        if spectrogram.ndim not in {2, 3} or spectrogram.shape[-1] != bins:
            msg = f"spectrogram: got shape {tuple(spectrogram.shape)}, expected (batch, time, {bins}) or (time, {bins})"
            raise PlanError(msg)
        check_same_kind(spectrogram, self.vocoder.conv_pre.bias, "spectrogram", dtype=True, of="the network")
        with no_gradients(spectrogram):
            single = spectrogram.ndim == 2
            x = (spectrogram[None] if single else spectrogram).detach()
            sound = self._modes.run(x, self._cells, "exact", None, progress)
            return sound[0] if single else sound
