"""`mmae bench attention`: our kernel for short sequences beside torch's, and what its compiled code needs of a GPU."""
