"""How validation losses fall with a model's size and the tiles it sees, fitted to the runs of a ladder.

`law` is the formula, `law_fit` fits it, `fit_checks` says how far a fit can be trusted, `ladder_file` holds what a
ladder's runs reached. What starts these runs is `mmae.scale`; `mmae plan --ladder` asks for predictions.
"""
