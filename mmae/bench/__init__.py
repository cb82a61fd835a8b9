"""What this machine reaches, beside what others reach on it and what it could reach at most."""
