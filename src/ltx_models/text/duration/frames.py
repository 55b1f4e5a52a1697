"""Numbers of frames for a duration; integers alone."""

from __future__ import annotations

from math import isfinite

STEP = 8  # frames of a latent frame: clips have 1 + 8 k


def duration_frames(seconds: float, fps: float, *, minimum: float = 1.0, maximum: float = 20.0) -> int:
    """
    Give the number of frames of a clip that lasts about so long.

    Parameters
    ----------
    seconds : float
        The duration, 0 or more.
    fps : float
        Frames a second, above 0.
    minimum, maximum : float
        The shortest and the longest duration that is taken, in seconds.

    Returns
    -------
    int
        ``1 + 8 k`` frames within the two bounds; where no such number lies between them, the longest duration's.

    Raises
    ------
    ValueError
        If a number is not finite, `fps` is not above 0, or the bounds are not in order and above 0.

    Notes
    -----
    Source: Lightricks/LTX-2; halves go to the even number.

    Examples
    --------
    >>> duration_frames(5.0, 24.0)
    113
    """
    if not (isfinite(seconds) and seconds >= 0 and isfinite(fps) and fps > 0):
        msg = f"duration: got {seconds} seconds at {fps} frames a second; expected 0 or more, at more than 0"
        raise ValueError(msg)
    if not (isfinite(maximum) and 0 < minimum <= maximum):
        msg = f"duration: got bounds {minimum} to {maximum} seconds; expected two above 0, the smaller first"
        raise ValueError(msg)
    least, most = round(minimum * fps), round(maximum * fps)
    frames = STEP * ((min(max(round(seconds * fps), least), most) - 1) // STEP) + 1
    if frames < least:
        frames = min(-(-(least - 1) // STEP) * STEP + 1, most)
    return frames
