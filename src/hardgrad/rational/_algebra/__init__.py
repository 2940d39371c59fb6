"""Signed common meadows: numbers, arrays and tuples, and the labels that are lifted to them."""
