"""Fine-tuning: a pretrained encoder learns a task. `mmae finetune`.

Here: the command, several trainings with one command (`repeats`), and results. `model` makes the model, `labelled`
the samples, `start` what a start will do, `training` trains, `scoring` scores. Start with `whole_command.py`.
"""
