"""Data of an as-of day: cleaned lines, interactions, customer histories, products and the product snapshot."""
