"""Retrieval: the models and candidate sources that propose (customer, product) pairs."""
