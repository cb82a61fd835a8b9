"""One training of a fine-tuned model, on any number of ranks.

Here: mixing and erasing, objectives, the step, averaged weights, checkpoints, records, and the loop (`tuning_loop`),
which reads from top to bottom. Not here: labels, scores, and several trainings with one command.
"""
