"""What tuples (P, Q) are trained on, and the objective made of it."""
