"""What a start of fine-tuning will do, and the model that it starts with.

Here: the spec, after all checks that need no ranks (`tuning_spec`, start there), and the model with the checks that
need it. Not here: what is done then.
"""
