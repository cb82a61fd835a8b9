"""Fine-tuning: a pretrained encoder learns a task. `model` makes the model."""
