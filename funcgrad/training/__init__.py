"""Training of linear classifiers and MLPs: minibatches, optimizers, checkpoints; all trainings of a sweep as one.

Read `steps` (one step, and the compiled loop of many), then `loop` (`fit`: epochs, validation, early stopping), which
uses `batches` (what comes to the device when), `placement` (where arrays lie), `evaluation` and `validation` (of
arguments). `checkpoint` is a training that is resumed, `saved_model` a trained classifier as files, `sweep` many
trainings in one program. `optimizers` and `augment` make functions by name.
"""

from funcgrad.models import Model
from funcgrad.training import augment, checkpoint, optimizers, saved_model
from funcgrad.training.batches import select_rows
from funcgrad.training.checkpoint import Checkpoint
from funcgrad.training.evaluation import predict
from funcgrad.training.loop import Fit, fit, run_epoch
from funcgrad.training.optimizers import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from funcgrad.training.saved_model import SavedModel
from funcgrad.training.steps import Examples, ModelState, Recipe, steps_per_epoch
from funcgrad.training.sweep import Hooks, Sweep, train_settings
from funcgrad.training.tuning import Tuning

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Checkpoint",
    "Examples",
    "Fit",
    "Hooks",
    "Model",
    "ModelState",
    "Recipe",
    "SavedModel",
    "Sweep",
    "Tuning",
    "augment",
    "checkpoint",
    "fit",
    "make_optimizer",
    "make_schedule",
    "optimizers",
    "predict",
    "run_epoch",
    "saved_model",
    "select_rows",
    "steps_per_epoch",
    "train_settings",
]
