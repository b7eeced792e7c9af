"""Merchandising rules: hide, weight, boost, cap and pin products after ranking, in the batch and in the API alike."""
