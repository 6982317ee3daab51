from funcgrad.training.loop import (
    _LOOK,
    OPTIMIZERS,
    SCHEDULES,
    Checkpoint,
    Fit,
    fit,
    make_optimizer,
    make_schedule,
    predict,
)

__all__ = ["OPTIMIZERS", "SCHEDULES", "_LOOK", "Checkpoint", "Fit", "fit", "make_optimizer", "make_schedule", "predict"]
