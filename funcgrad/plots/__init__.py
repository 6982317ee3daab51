from funcgrad.plots.curves import (
    confusion_matrix,
    cross_validation,
    heat_map,
    is_image_shape,
    learning_rate_curve,
    most_confident_mistakes,
    neighbors_grid,
    save,
    templates,
    training_curves,
    worst_mistakes,
)

__all__ = [
    "confusion_matrix",
    "cross_validation",
    "heat_map",
    "is_image_shape",
    "learning_rate_curve",
    "most_confident_mistakes",
    "neighbors_grid",
    "save",
    "templates",
    "training_curves",
    "worst_mistakes",
]
