"""How large a model is: parameters by name and floating-point operations in closed form, and the peak of known devices.

Nothing here builds a model, and torch is imported only to ask a device its name. Not here: memory and time of a run
(`mmae.plan`). Start with `flops.py`.
"""
