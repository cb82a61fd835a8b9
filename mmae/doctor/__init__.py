"""What stands in a run's way on the machines it is meant for, found before it starts."""
