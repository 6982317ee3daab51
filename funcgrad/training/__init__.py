from funcgrad.training.loop import _LOOK, Checkpoint, Fit, fit, make_optimizer, make_schedule, predict

__all__ = ["_LOOK", "Checkpoint", "Fit", "fit", "make_optimizer", "make_schedule", "predict"]
