"""One training of a fine-tuned model: samples are mixed, losses add up to that of the global batch, weights are averaged.

Here: mixing and erasing, objectives, the step, averaged weights, checkpoints, records, and the loop (`tuning_loop`), which
reads from top to bottom. Not here: labels, scores, and several trainings with one command.
"""
