"""Videos by PyAV: when each frame is shown, found without decoding, and frames decoded by these times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onestride.errors import naming_extras
from onestride.files import size_of_file

NEAR = 0.25  # how far from the wanted time a frame may be shown, in frames
OTHER_RATE = 0.01  # largest relative error of a video's rate


class Video:
    """A video's size, rate and the times of its frames, of which none is decoded yet.

    Attributes:
        path: of the file.
        size: height and width [px].
        rate: frames per second, or None where the file does not say.
        times: when the frames are shown (M,), in order [s].

    Raises:
        ImportError: PyAV is not installed.
        ValueError: the file is no video, is damaged, or nothing here decodes it. The message names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size_of_file(path)
        with _opened(path) as (container, stream):
            self.size = (int(stream.height), int(stream.width))
            self.rate = float(stream.average_rate) if stream.average_rate else None
            shown = {packet.pts for packet in container.demux(stream) if packet.pts is not None}
            self._shown = np.array(sorted(shown), np.int64)
            self._unit = stream.time_base
        self.times = self._shown * float(self._unit)

    def check_times(self, times: np.ndarray, rate: float, what: str) -> None:
        """Raise ValueError unless a frame is shown at each of these times (T,) [s]; what: they are of, to name it.

        rate: frames per second, by which "at" is meant.
        """
        if self.rate is not None and abs(self.rate / rate - 1) > OTHER_RATE:
            raise ValueError(
                f"{self.path} has {self.rate:.4g} frames per second, and meta/info.json says {rate:.4g}; record it "
                "again, or write it with the right rate"
            )
        away = np.abs(self.times[self._nearest(times)] - times) if len(self.times) else np.full(len(times), np.inf)
        missing = np.flatnonzero(away > NEAR / rate)
        if len(missing):
            ends = self.times[-1] if len(self.times) else 0.0
            raise ValueError(
                f"{self.path} has no frame for {len(missing)} of the {len(times)} rows of {what}: the first is at "
                f"{times[missing[0]]:.3f} s, its {len(self.times)} frames end at {ends:.3f} s; was it cut short, or "
                "not downloaded whole?"
            )

    def frames(self, times: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, for each frame that is shown at one of the times (T,), at which of them it is, and the frame.

        Frames are uint8 (height, width, 3), RGB, by FFmpeg's conversion, as LeRobot has them from PyAV.

        Raises:
            ValueError: a frame cannot be decoded.
        """
        wanted = self._shown[self._nearest(times)]
        left = set(wanted.tolist())
        with _opened(self.path) as (container, stream):
            container.seek(int(wanted.min()), stream=stream, backward=True)  # the last key frame before it
            for frame in container.decode(stream):
                if frame.pts in left:
                    left.remove(frame.pts)
                    if (frame.height, frame.width) != self.size:
                        raise ValueError(
                            f"{self.path}: a frame is {frame.height} x {frame.width} px, expected {self.size[0]} x "
                            f"{self.size[1]}; it is damaged"
                        )
                    yield np.flatnonzero(wanted == frame.pts), frame.to_ndarray(format="rgb24")
                if not left:
                    return
        raise ValueError(
            f"{self.path}: {len(left)} frames cannot be decoded, the first at {min(left) * float(self._unit):.3f} s; "
            "it is damaged"
        )

    def _nearest(self, times: np.ndarray) -> np.ndarray:
        """Which frame (T,) is shown nearest to each of the times (T,)."""
        after = np.searchsorted(self.times, times).clip(1, max(len(self.times) - 1, 1))
        before = after - 1
        after = after.clip(max=len(self.times) - 1)
        return np.where(times - self.times[before] <= self.times[after] - times, before, after)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file's video stream. What FFmpeg says of a damaged one is told in a line."""
    with naming_extras():
        import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:  # titles and the like, which nobody reads
            if not container.streams.video:
                raise ValueError(f"{path} holds no video")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError(f"{path} is in a format that the installed PyAV does not decode")
            yield container, stream
    except av.FFmpegError as error:  # pyright: ignore[reportPrivateImportUsage]
        raise ValueError(f"{path} cannot be read as a video ({error!s:.120}); was it downloaded whole?") from error
