"""An average of the weights over a training (`train.ema`), divided over ranks as the optimiser's master weights are.

Not here: its file in a checkpoint (`checkpoint/contents/average_state.py`). Start with `weight_average.py`.
"""
