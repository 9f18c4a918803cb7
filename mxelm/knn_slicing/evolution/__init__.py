"""Kernels evolved without backpropagation: the search, its strategies, and what a filter is worth."""
