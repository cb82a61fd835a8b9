"""A page to draw on with matplotlib: images, boxes and text at places in pixels from the upper left corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

SMALL: Final = 12
"""Height of the smallest text, in pixels."""
_DPI: Final = 100
_POINTS: Final = 72 / _DPI


class Canvas:
    """One figure. It keeps no state in matplotlib beside the figure, so that threads may draw at the same time."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.set_axis_off()

    def image(self, x: float, y: float, width: float, height: float, picture_hw3: NDArray[np.uint8]) -> None:
        """A picture, enlarged without smoothing."""
        from matplotlib.image import AxesImage

        # `imshow` would fit the page to the picture.
        image = AxesImage(self._axes, interpolation="nearest", extent=(x, x + width, y + height, y), zorder=1)
        image.set_data(picture_hw3)
        self._axes.add_image(image)

    def box(self, x: float, y: float, width: float, height: float, fill: str | None = None, edge: str = "#555") -> None:
        """A rectangle with a thin edge."""
        from matplotlib.patches import Rectangle

        self._axes.add_patch(
            Rectangle((x, y), width, height, fill=fill is not None, facecolor=fill, edgecolor=edge, lw=0.6, zorder=2)
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = SMALL,
        bold: bool = False,
        top: bool = False,
        centre: bool = False,
        halo: bool = False,
    ) -> None:
        """Text around a place.

        Args:
            y: its middle, or with `top` its upper edge.
            size: in pixels.
            centre: `x` is the middle of the text, not its beginning.
            halo: with a white edge, to be read on any colour.
        """
        from matplotlib.patheffects import withStroke

        self._axes.text(
            x,
            y,
            words,
            fontsize=max(size, SMALL) * _POINTS,
            fontweight="bold" if bold else "normal",
            verticalalignment="top" if top else "center_baseline",
            horizontalalignment="center" if centre else "left",
            path_effects=[withStroke(linewidth=2.5, foreground="white")] if halo else None,
            # Names come from files. They are no formulas, whatever they contain.
            parse_math=False,
            zorder=3,
            linespacing=1.25,
        )
