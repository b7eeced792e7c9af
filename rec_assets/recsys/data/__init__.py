"""What is known on a day: cleaned lines, interactions, histories, products and their snapshot."""
