"""Retrieval: candidate sources and their models, which propose (customer, product) pairs."""
