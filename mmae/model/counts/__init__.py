"""How large a model is: parameters and floating-point operations in closed form.

Nothing here builds a model or needs torch. Not here: memory and time of a run (`mmae.plan`). Start with `flops.py`.
"""
