"""What is fitted, and its scores on a task's tests: vectors of tiles, heads for pixels, and fine-tuned models."""
