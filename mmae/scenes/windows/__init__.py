"""Windows of a scene: where they lie, what a model says about them, their blend. Start with `scene_pass.py`."""
