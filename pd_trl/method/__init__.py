"""The method of the paper (arXiv 2508.07638), in numpy: divergence, ranking, votes and length."""
