"""Layers, heads and models that emit tuples (P, Q), or values with the mask of where they are ⊥."""
