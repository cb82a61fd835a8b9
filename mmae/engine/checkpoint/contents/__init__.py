"""What a checkpoint holds beside DeepSpeed's files: one module for each piece.

Here: the state of a training, random number generators, frozen parameters and buffers, hyper-parameters that a resume
may change, and where the code came from. Not here: writing them (`save.py`). Start with `train_state.py`.
"""
