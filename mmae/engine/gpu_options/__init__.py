"""Ways to a faster step that need a GPU of a certain kind, each off unless a recipe asks for it."""
