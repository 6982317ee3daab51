"""Figures from plain arrays, each understandable without a caption elsewhere.

Every function takes whatever `np.asarray` accepts, returns a `matplotlib.figure.Figure` and touches no global state
(no pyplot, no display); `save` writes it. Matplotlib is imported by the first figure, not by this package.

`curves` has what is drawn against an axis, `image_grids` pages of images, `tables` the confusion matrix and the heat
map; `style` what all of them share. Right and wrong differ in position, sign or line style as well as in colour, and
the colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish too.
"""

from funcgrad.plots.curves import cross_validation, training_curves
from funcgrad.plots.image_grids import (
    is_image_shape,
    most_confident_mistakes,
    neighbors_grid,
    templates,
    worst_mistakes,
)
from funcgrad.plots.style import number, save
from funcgrad.plots.tables import confusion_matrix, heat_map

__all__ = [
    "confusion_matrix",
    "cross_validation",
    "heat_map",
    "is_image_shape",
    "most_confident_mistakes",
    "neighbors_grid",
    "number",
    "save",
    "templates",
    "training_curves",
    "worst_mistakes",
]
