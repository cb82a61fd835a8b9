"""What is fitted on frozen features, and its scores on a task's tests: vectors of tiles, and heads for pixels."""
