"""Windows of a scene: where they lie, what a model says about them, how they are blended. Start with `scene_pass.py`."""
