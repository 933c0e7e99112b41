"""Sound as tensors: files in and out, features, effects, augmentation; all of it pure functions."""
